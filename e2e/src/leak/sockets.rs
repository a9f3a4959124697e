//! Connections that a process serves: those of its own TCP sockets that lead to a port it listens on.

use std::collections::BTreeSet;
use std::fs;

use crate::fixture;

/// States of a socket in `/proc/net/tcp` (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const CLOSE_WAIT: &str = "08";
const LISTEN: &str = "0A";

/// One line for each open connection that `pid` serves.
pub fn served_by(pid: u32) -> Vec<String> {
    let own = sockets(pid);
    let tables = ["tcp", "tcp6"].map(|table| fixture::read(format!("/proc/{pid}/net/{table}").as_ref()));
    let rows = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(Row::parse);
    let (listening, open): (Vec<Row>, Vec<Row>) =
        rows.filter(|row| own.contains(row.inode)).partition(|row| row.state == LISTEN);
    let served = open.into_iter().filter(|row| {
        [ESTABLISHED, CLOSE_WAIT].contains(&row.state) && listening.iter().any(|it| it.port() == row.port())
    });
    served
        .map(|row| format!("connection from {} to {} in state {}", row.remote, row.local, row.state))
        .collect()
}

fn sockets(pid: u32) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    entries.filter_map(inode).collect()
}

struct Row<'a> {
    local: &'a str,
    remote: &'a str,
    state: &'a str,
    inode: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Some(Self { local: words.get(1)?, remote: words.get(2)?, state: words.get(3)?, inode: words.get(9)? })
    }

    fn port(&self) -> Option<&'a str> {
        self.local.rsplit(':').next()
    }
}
