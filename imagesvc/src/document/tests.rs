//! Documents that are understood, and those that must not be.

use super::*;

fn digest(c: char) -> String {
    format!("sha256:{}", c.to_string().repeat(64))
}

fn own() -> Digest {
    Digest::parse(digest('0')).unwrap()
}

fn descriptor(c: char, more: &str) -> String {
    format!(r#"{{"mediaType":"m","digest":"{}","size":5{more}}}"#, digest(c))
}

fn platform(arch: &str, variant: &str) -> String {
    format!(r#","platform":{{"os":"linux","architecture":"{arch}","variant":"{variant}"}}"#)
}

#[test]
fn ambiguous_and_foreign_documents_are_refused() {
    let (config, layers) = (descriptor('1', ""), format!("[{}]", descriptor('2', "")));
    let cases = [
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":{layers},"manifests":[]}}"#), "ambiguous"),
        (format!(r#"{{"schemaVersion":2,"layers":{layers},"manifests":{layers}}}"#), "ambiguous"),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","config":{config}}}"#, media::OCI_INDEX),
            "ambiguous",
        ),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#, media::OCI_MANIFEST),
            "ambiguous",
        ),
        (r#"{"schemaVersion":2}"#.to_owned(), "ambiguous"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema 1"),
        (r#"{"schemaVersion":2,"mediaType":"text/plain"}"#.to_owned(), "text/plain"),
        (r#"{"schemaVersion":2,"config":{"digest":"../../x","size":1}}"#.to_owned(), "not valid"),
        (r#"{"schemaVersion":2,"config":{"digest":"x","size":-1}}"#.to_owned(), "not valid"),
        ("<html>".to_owned(), "not valid"),
    ];
    for (text, why) in cases {
        let error = parse(&own(), text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(error.to_string().contains(own().as_str()), "{error}");
    }
}

#[test]
fn an_index_gives_this_hosts_plain_image() {
    let arch = host_architecture();
    let entries = |list: &[String]| {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, list.join(","));
        match parse(&own(), text.as_bytes()).unwrap() {
            Document::Index(entries) => entries,
            Document::Manifest(_) => panic!("an index was wanted"),
        }
    };
    let plain = descriptor('1', &platform(arch, ""));
    let other = descriptor('2', &platform("s390x", ""));
    let finer = descriptor('3', &platform(arch, "v9"));
    let unnamed = descriptor('4', "");
    let picked = |list: &[String]| select(&own(), entries(list)).map(|target| target.digest.to_string());
    assert_eq!(picked(&[other.clone(), finer.clone(), unnamed.clone(), plain]).unwrap(), digest('1'));
    assert_eq!(picked(&[other.clone(), unnamed]).unwrap(), digest('4'));
    let error = picked(&[other, finer]).unwrap_err();
    assert!(error.to_string().contains(arch), "{error}");
}

#[test]
fn configurations_may_say_null_everywhere() {
    let text = r#"{"config":{"Cmd":null,"Env":null,"Labels":null,"Volumes":null,"User":null},"rootfs":{"type":"layers","diff_ids":null},"x":1}"#;
    let parsed = parse_config(&own(), text.as_bytes()).unwrap();
    assert_eq!((parsed.config, parsed.diff_ids), (ImageConfig::default(), Vec::new()));
    assert!(parse_config(&own(), br#"{"config":null,"rootfs":{"diff_ids":[]}}"#).is_ok());
    assert!(parse_config(&own(), br#"{"config":{}}"#).is_err());
}

#[test]
fn chain_ids_follow_the_specification() {
    let ids = [Digest::parse(digest('a')).unwrap(), Digest::parse(digest('b')).unwrap()];
    let chain = chain_ids(&ids);
    assert_eq!(chain[0].as_str(), digest('a'));
    let expected = Digest::from_sha256(&Sha256::digest(format!("{} {}", digest('a'), digest('b'))));
    assert_eq!(chain[1].as_str(), expected.as_str());
    assert!(chain_ids(&[]).is_empty());
}
