//! What the kernel answers to requests: all of it or not yet, and whether the list changed while it was told. Pure.

use std::io;

use rustix::io::Errno;

use super::message::{self, Message, Sent};

/// What has come back so far.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) messages: Vec<Message<'static>>,
    /// Somebody changed the rules meanwhile. The kernel goes on by a count, so that a list may lack some of them.
    pub(super) interrupted: bool,
    open: usize,
    listed: bool,
}

impl Answers {
    pub(super) fn to(sent: &Sent) -> Self {
        Self { messages: Vec::new(), interrupted: false, open: sent.answers, listed: sent.listed }
    }

    pub(super) fn are_complete(&self) -> bool {
        self.open == 0
    }

    /// Takes what came; the first error is the answer.
    pub(super) fn take(&mut self, datagram: &[u8]) -> io::Result<()> {
        for message in message::all(datagram) {
            self.interrupted |= message.is_interrupted();
            match message.error() {
                Some(0) if message.is_end() => self.open = 0,
                Some(0) => self.open = self.open.saturating_sub(1),
                Some(number) => return Err(io::Error::from_raw_os_error(number)),
                None => {
                    if !message.is_part() && !self.listed {
                        self.open = self.open.saturating_sub(1);
                    }
                    self.messages.push(message.into_owned());
                }
            }
        }
        Ok(())
    }
}

/// Whether something that was asked for is not there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::NOENT])
}

/// Whether an answer to a question says that no such table can be there: besides that it is not, a kernel without the
/// socket, without nftables (of old, and in a batch), or without this family.
pub(super) fn says_no_table(error: &io::Error) -> bool {
    let all = [Errno::NOENT, Errno::PROTONOSUPPORT, Errno::INVAL, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
    is_one_of(error, &all)
}

fn is_one_of(error: &io::Error, numbers: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|number| numbers.iter().any(|one| one.raw_os_error() == number))
}

#[cfg(test)]
mod tests {
    use super::super::message::Request;
    use super::*;

    const MULTI: u16 = 2;
    const INTERRUPTED: u16 = 0x10;
    const RULE: u16 = 0x0a06;
    const ERROR: u16 = 2;
    const DONE: u16 = 3;

    fn message(kind: u16, flags: u16, body: i32) -> Vec<u8> {
        let (length, rest) = (20_u32.to_ne_bytes(), [[0; 4]; 2].concat());
        [&length[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &rest, &body.to_ne_bytes()].concat()
    }

    fn listed(datagrams: &[Vec<u8>]) -> io::Result<Answers> {
        let mut answers = Answers::to(&Request::new(10, 7, 2).dump());
        for datagram in datagrams {
            assert!(!answers.are_complete());
            answers.take(datagram)?;
        }
        assert!(answers.are_complete());
        Ok(answers)
    }

    #[test]
    fn a_list_that_changed_meanwhile_is_told_from_a_whole_one() {
        let rule = |flags| message(RULE, MULTI | flags, 0);
        let done = |flags| message(DONE, MULTI | flags, 0);
        for (datagrams, interrupted) in [
            (vec![[rule(0), rule(0)].concat(), rule(0), done(0)], false),
            (vec![[rule(0), rule(0)].concat(), [rule(INTERRUPTED), rule(0)].concat(), done(0)], true),
            (vec![rule(0), done(INTERRUPTED)], true),
            (vec![done(INTERRUPTED)], true),
            (vec![done(0)], false),
        ] {
            assert_eq!(listed(&datagrams).unwrap().interrupted, interrupted, "{datagrams:?}");
        }
    }

    #[test]
    fn the_first_error_is_the_answer() {
        let many = [message(ERROR, 0, -17), message(ERROR, 0, -2)].concat();
        assert_eq!(listed(&[many]).unwrap_err().raw_os_error(), Some(17));
        // A list that fails on the way tells so at its end.
        assert_eq!(listed(&[message(DONE, MULTI, -95)]).unwrap_err().raw_os_error(), Some(95));
    }

    #[test]
    fn a_kernel_without_tables_is_told_from_a_failure() {
        for (number, missing, no_table) in [
            (Errno::NOENT, true, true),
            (Errno::PROTONOSUPPORT, false, true),
            (Errno::INVAL, false, true),
            (Errno::OPNOTSUPP, false, true),
            (Errno::AFNOSUPPORT, false, true),
            (Errno::PERM, false, false),
            (Errno::NOBUFS, false, false),
            (Errno::NOMEM, false, false),
            (Errno::BUSY, false, false),
        ] {
            let error = io::Error::from(number);
            assert_eq!((is_missing(&error), says_no_table(&error)), (missing, no_table), "{error}");
        }
        assert!(!says_no_table(&io::ErrorKind::Interrupted.into()));
    }
}
