//! The kernel's netfilter socket: which chains and rules of nftables are there, and their removal, without a program.
//!
//! Rules are recognised by their comments. Answers come from the kernel; they are read with all lengths checked
//! nevertheless.

mod answers;
pub(crate) mod message;
pub(crate) mod rule;

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use rtnetlink::sys::{Socket, SocketAddr};
use rustix::net::sockopt;

use self::answers::{Answers, is_missing, says_no_table};
use self::message::{Attributes, Message, Request};
use super::FirewallError;

const NETLINK_NETFILTER: isize = 12;
const NFTABLES: u16 = 10;
const CONNTRACK: u16 = 1;
// NFT_MSG_*
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
// NFTA_CHAIN_* and NFTA_RULE_*
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
/// How long a list is asked for again, and rules are removed again, while others change theirs: on a node that is
/// drained all pods do so at once.
const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    /// The socket of this thread's namespace. One for all requests: at its close the kernel waits for what was deleted
    /// meanwhile to be freed, some milliseconds each time.
    static SOCKET: Cell<Option<Socket>> = const { Cell::new(None) };
}

/// A table by its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Inet(&'static str),
    Ip(&'static str),
    Ip6(&'static str),
    Bridge(&'static str),
}

impl Table {
    fn family(self) -> u8 {
        match self {
            Self::Inet(_) => 1,
            Self::Ip(_) => 2,
            Self::Bridge(_) => 7,
            Self::Ip6(_) => 10,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Inet(name) | Self::Ip(name) | Self::Ip6(name) | Self::Bridge(name) => name,
        }
    }
}

/// A rule as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
    /// The number of steps that it is made of.
    pub(crate) steps: usize,
}

/// Whether a chain is there.
pub(crate) fn has_chain(table: Table, chain: &str) -> io::Result<bool> {
    let mut request = Request::new(NFTABLES, GET_CHAIN, table.family());
    request.text(CHAIN_TABLE, table.name()).text(CHAIN_NAME, chain);
    match exchange(&request.single()) {
        Ok(answers) => Ok(answers.messages.iter().any(|one| one.is(NFTABLES, NEW_CHAIN))),
        Err(error) if says_no_table(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The rules of a chain; none when it is not there.
pub(crate) fn rules(table: Table, chain: &str) -> Result<Vec<Rule>, FirewallError> {
    let mut request = Request::new(NFTABLES, GET_RULE, table.family());
    request.text(RULE_TABLE, table.name()).text(RULE_CHAIN, chain);
    let messages = match list(&request) {
        Ok(messages) => messages,
        Err(error) if says_no_table(&error) => return Ok(Vec::new()),
        Err(error) => return Err(failed("list the rules", table)(error)),
    };
    let rules = messages.iter().filter(|one| one.is(NFTABLES, NEW_RULE)).filter_map(rule);
    Ok(rules.filter(|(of, rule)| *of == table.name() && rule.chain == chain).map(|(_, rule)| rule).collect())
}

/// Removes the rules of these chains whose comment is chosen, until none is listed any more.
pub(crate) fn remove(
    table: Table,
    chains: &[&str],
    chosen: impl Fn(&str) -> bool,
) -> Result<(), FirewallError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut found = Vec::new();
        for chain in chains {
            let of_chain = rules(table, chain)?.into_iter();
            found.extend(of_chain.filter(|rule| rule.comment.as_deref().is_some_and(&chosen)));
        }
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(failed("remove rules", table)(io::ErrorKind::ResourceBusy.into()));
        }
        // When another plugin was faster with one of them, all of ours are still there.
        replace(table, &found, Vec::new())?;
    }
}

/// Writes rules in place of others, all of it or nothing. False when something of it is not there (any more): then the
/// program has to make the table.
pub(crate) fn replace(table: Table, stale: &[Rule], new: Vec<Request>) -> Result<bool, FirewallError> {
    let requests: Vec<Request> = stale.iter().map(|rule| deletion(table, rule)).chain(new).collect();
    if requests.is_empty() {
        // It would have no answer.
        return Ok(true);
    }
    match exchange(&message::transaction(&requests)) {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(failed("change rules", table)(error)),
    }
}

fn deletion(table: Table, rule: &Rule) -> Request {
    let mut request = Request::new(NFTABLES, DELETE_RULE, table.family());
    request.text(RULE_TABLE, table.name()).text(RULE_CHAIN, &rule.chain);
    request.bytes(RULE_HANDLE, &rule.handle.to_be_bytes());
    request
}

fn failed(step: &'static str, table: Table) -> impl FnOnce(io::Error) -> FirewallError {
    move |source| FirewallError::Kernel { step, table: table.name(), source }
}

/// A rule and the name of its table.
fn rule<'a>(message: &'a Message<'_>) -> Option<(&'a str, Rule)> {
    let (mut table, mut chain, mut handle, mut comment, mut steps) = (None, None, None, None, 0);
    for (kind, value) in message.attributes() {
        match kind {
            RULE_TABLE => table = message::text(value),
            RULE_CHAIN => chain = message::text(value),
            RULE_HANDLE => handle = value.try_into().ok().map(u64::from_be_bytes),
            RULE_EXPRESSIONS => steps = Attributes::new(value).count(),
            RULE_USERDATA => comment = message::comment(value),
            _ => {}
        }
    }
    Some((table?, Rule { chain: chain?.to_owned(), handle: handle?, comment, steps }))
}

/// Forgets connections over UDP to these ports of the host: the kernel would send them where they went before.
pub(crate) fn forget_udp(family: super::Family, ports: &[u16]) -> io::Result<()> {
    const GET: u16 = 1;
    const DELETE: u16 = 2;
    const TUPLE: u16 = 1;
    let family = match family {
        super::Family::V4 => 2,
        super::Family::V6 => 10,
    };
    for message in &list(&Request::new(CONNTRACK, GET, family))? {
        let Some((_, tuple)) = message.attributes().find(|(kind, _)| *kind == TUPLE) else { continue };
        if udp_port(tuple).is_some_and(|port| ports.contains(&port)) {
            let mut request = Request::new(CONNTRACK, DELETE, family);
            request.nested(TUPLE, tuple);
            match exchange(&request.acknowledged()) {
                Ok(_) => {}
                // It has ended meanwhile.
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The destination port of a connection over UDP.
fn udp_port(tuple: &[u8]) -> Option<u16> {
    const PROTOCOL: u16 = 2;
    const NUMBER: u16 = 1;
    const DESTINATION: u16 = 3;
    const UDP: u8 = 17;
    let (_, protocol) = Attributes::new(tuple).find(|(kind, _)| *kind == PROTOCOL)?;
    let field =
        |wanted: u16| Attributes::new(protocol).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    if field(NUMBER)? != [UDP] {
        return None;
    }
    Some(u16::from_be_bytes(field(DESTINATION)?.try_into().ok()?))
}

/// A list as it was at one moment: when somebody changed it while the kernel told it, it is asked for again.
fn list(request: &Request) -> io::Result<Vec<Message<'static>>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answers = exchange(&request.dump())?;
        if !answers.interrupted {
            return Ok(answers.messages);
        }
        if Instant::now() > deadline {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
    }
}

/// Sends requests and reads until the kernel has said all: an answer each, or the end of a list.
fn exchange(sent: &message::Sent) -> io::Result<Answers> {
    let socket = SOCKET.take().map_or_else(open, Ok)?;
    // A transaction is sent in one piece, and by default a piece has room for some hundred rules.
    if sent.bytes.len() > sockopt::socket_send_buffer_size(&socket)? / 2 {
        sockopt::set_socket_send_buffer_size_force(&socket, sent.bytes.len())?;
    }
    socket.send(&sent.bytes, 0)?;
    let (mut answers, mut outcome) = (Answers::to(sent), Ok(()));
    while outcome.is_ok() && !answers.are_complete() {
        let (bytes, _) = socket.recv_from_full()?;
        outcome = answers.take(&bytes);
    }
    // The errors of the other requests of a transaction are still in it.
    if outcome.is_ok() || sent.alone {
        SOCKET.set(Some(socket));
    }
    outcome.map(|()| answers)
}

fn open() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // Each request of a transaction that fails has an error. Those that there is no room for are not missed: the first
    // one is the answer, and a success has one only.
    socket.set_no_enobufs(true)?;
    Ok(socket)
}
