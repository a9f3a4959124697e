//! Layers in every compression: read whole, and bounded by what comes out of them.

use super::*;

const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 3).unwrap()
}

/// A frame that says nothing to a decoder.
fn skippable(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&SKIPPABLE[..], &length, content].concat()
}

fn apply_packed(packed: &[u8], tar: &[u8], target: &Target, limits: Limits) -> Result<(), UnpackError> {
    let diff_id = Digest::from_sha256(&Sha256::digest(tar));
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(packed).unwrap();
    file.rewind().unwrap();
    apply(file, target, &diff_id, limits, &CancellationToken::new())
}

#[test]
fn every_compression_gives_the_same_layer() {
    let tar = Tar::new().file("a", &"x".repeat(300_000)).bytes();
    let (front, back) = tar.split_at(1000);
    let cases = [
        ("plain", tar.clone()),
        ("gzip", gzip(&tar)),
        ("gzip in two members", [gzip(front), gzip(back)].concat()),
        ("zstd", zstd(&tar)),
        ("zstd in two frames", [zstd(front), zstd(back)].concat()),
        ("zstd with a table at its end", [zstd(front), zstd(back), skippable(b"table")].concat()),
        ("zstd behind a frame to skip", [skippable(b""), zstd(&tar)].concat()),
    ];
    for (name, packed) in cases {
        let (_keep, target) = place();
        apply_packed(&packed, &tar, &target, Limits::default()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(read(&target, "a").len(), 300_000, "{name}");
    }
}

#[test]
fn a_bomb_goes_off_within_the_limit() {
    let tar = Tar::new().file("a", &"\0".repeat(4 << 20)).bytes();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    for (name, packed) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        assert!(packed.len() < 64 << 10, "{name}");
        let (_keep, target) = place();
        let error = apply_packed(&packed, &tar, &target, limits).unwrap_err();
        assert!(matches!(error, UnpackError::Limit { .. }), "{name}: {error:?}");
    }
}

/// Zeros behind the archive's end, 128 KiB in four bytes: they would be read for a terabyte.
#[test]
fn zstd_expands_no_more_than_gzip_could() {
    // A frame without content size, with a window of 128 KiB; then run-length blocks of zeros.
    const BLOCKS: usize = 12_000;
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 7 << 3];
    let block = |last: u32| {
        let bits = last | (1 << 1) | ((128 << 10) << 3);
        [bits.to_le_bytes()[0], bits.to_le_bytes()[1], bits.to_le_bytes()[2], 0]
    };
    let mut bomb = zstd(&Tar::new().file("a", "x").bytes());
    bomb.extend(header);
    (1..BLOCKS).for_each(|_| bomb.extend(block(0)));
    bomb.extend(block(1));
    assert!(bomb.len() < 64 << 10 && BLOCKS << 17 > (1 << 30) + bomb.len() * 1032);
    let (_keep, target) = place();
    let error = apply_packed(&bomb, b"", &target, Limits::default()).unwrap_err();
    assert!(matches!(error, UnpackError::Limit { what: "bytes", .. }), "{error:?}");
}

#[test]
fn broken_compression_is_an_error_and_wants_no_memory() {
    let tar = Tar::new().file("a", &"x".repeat(300_000)).bytes();
    let whole = zstd(&tar);
    // The window descriptor's exponent asks for 2 GiB.
    let greedy = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x03, 0x00, 0x00, 0x00];
    let cases = [
        ("cut zstd", whole[..whole.len() - 1].to_vec()),
        ("zstd and garbage", [&whole[..], b"garbage"].concat()),
        ("a window of gigabytes", greedy.to_vec()),
        ("cut gzip", gzip(&tar)[..100].to_vec()),
    ];
    for (name, packed) in cases {
        let (_keep, target) = place();
        let error = apply_packed(&packed, &tar, &target, Limits::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Read(_)), "{name}: {error:?}");
    }
}
