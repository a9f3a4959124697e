//! The lines of passwd(5) and group(5). What is not one is skipped, as the C library does.

/// One account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PasswdEntry {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// One group with the accounts that are in it beside their main group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupEntry {
    pub(super) name: String,
    pub(super) gid: u32,
    pub(super) members: Vec<String>,
}

/// `name:password:uid:gid:…`
pub(super) fn passwd(text: &str) -> Vec<PasswdEntry> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = name(fields.next()?)?;
        let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
        Some(PasswdEntry { name, uid, gid })
    };
    text.lines().filter_map(entry).collect()
}

/// `name:password:gid:member,member`
pub(super) fn group(text: &str) -> Vec<GroupEntry> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = name(fields.next()?)?;
        let gid = id(fields.nth(1)?)?;
        let members = fields.next().unwrap_or_default().split(',').map(str::trim);
        let members = members.filter(|member| !member.is_empty()).map(str::to_owned).collect();
        Some(GroupEntry { name, gid, members })
    };
    text.lines().filter_map(entry).collect()
}

/// Comments and NIS markers are no names.
fn name(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty() && !text.starts_with(['#', '+', '-'])).then(|| text.to_owned())
}

/// Digits only, and not the number that means "nobody" to the kernel: (uid_t)-1.
pub(super) fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok())?.filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_nonsense_is_skipped() {
        let text = "root:x:0:0:root:/root:/bin/sh\n# comment:x:1:1\n+nis::::\n\nshort:x:1\nbad:x:-1:0:::\n:x:5:5\nwww-data:x:33:33\n";
        let names: Vec<_> = passwd(text).into_iter().map(|it| (it.name, it.uid, it.gid)).collect();
        assert_eq!(names, [("root".to_owned(), 0, 0), ("www-data".to_owned(), 33, 33)]);
    }

    #[test]
    fn groups_have_members_or_none() {
        let text = "root:x:0:\nadm:x:4:a, b,\nlast:x:9\nbroken:x:four:a\n";
        let expected = [("root", 0, vec![]), ("adm", 4, vec!["a", "b"]), ("last", 9, vec![])];
        let found = group(text);
        assert_eq!(found.len(), expected.len());
        for (found, (name, gid, members)) in found.iter().zip(expected) {
            assert_eq!((found.name.as_str(), found.gid), (name, gid));
            assert_eq!(found.members, members);
        }
    }

    #[test]
    fn ids_are_plain_decimal_numbers() {
        let table = [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("4294967294", Some(4_294_967_294)),
            ("4294967295", None),
            ("4294967296", None),
            ("+1", None),
            ("-1", None),
            ("", None),
            ("1a", None),
        ];
        for (text, expected) in table {
            assert_eq!(id(text), expected, "{text:?}");
        }
    }
}
