//! Stop signals (KEP-4960): the CRI's own numbers and the kernel's.

use cri_proto::v1::Signal;

/// The CRI's signals before the real-time ones, with Linux' numbers (signal(7)); the first of a number is its name.
const NUMBERS: [(Signal, i32); 34] = [
    (Signal::Sighup, 1),
    (Signal::Sigint, 2),
    (Signal::Sigquit, 3),
    (Signal::Sigill, 4),
    (Signal::Sigtrap, 5),
    (Signal::Sigabrt, 6),
    (Signal::Sigiot, 6),
    (Signal::Sigbus, 7),
    (Signal::Sigfpe, 8),
    (Signal::Sigkill, 9),
    (Signal::Sigusr1, 10),
    (Signal::Sigsegv, 11),
    (Signal::Sigusr2, 12),
    (Signal::Sigpipe, 13),
    (Signal::Sigalrm, 14),
    (Signal::Sigterm, 15),
    (Signal::Sigstkflt, 16),
    (Signal::Sigchld, 17),
    (Signal::Sigcld, 17),
    (Signal::Sigcont, 18),
    (Signal::Sigstop, 19),
    (Signal::Sigtstp, 20),
    (Signal::Sigttin, 21),
    (Signal::Sigttou, 22),
    (Signal::Sigurg, 23),
    (Signal::Sigxcpu, 24),
    (Signal::Sigxfsz, 25),
    (Signal::Sigvtalrm, 26),
    (Signal::Sigprof, 27),
    (Signal::Sigwinch, 28),
    (Signal::Sigio, 29),
    (Signal::Sigpoll, 29),
    (Signal::Sigpwr, 30),
    (Signal::Sigsys, 31),
];

/// From SIGRTMIN to SIGRTMAX both sides count alike, one apart.
const REAL_TIME_OFFSET: i32 = 1;
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The kernel's number; `None` for "the image's".
pub(super) fn number(signal: Signal) -> Option<i32> {
    if signal == Signal::RuntimeDefault {
        return None;
    }
    let listed = NUMBERS.iter().find(|(it, _)| *it == signal).map(|(_, number)| *number);
    listed.or(Some(signal as i32 - REAL_TIME_OFFSET))
}

/// The CRI's name of a kernel's number.
pub(super) fn from_number(number: i32) -> Option<Signal> {
    if REAL_TIME.contains(&number) {
        return Signal::try_from(number + REAL_TIME_OFFSET).ok();
    }
    NUMBERS.iter().find(|(_, it)| *it == number).map(|(signal, _)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_has_the_kernels_number() {
        let table = [
            (Signal::Sigterm, 15),
            (Signal::Sigcld, 17),
            (Signal::Sigrtmin, 34),
            (Signal::Sigrtminplus3, 37),
            (Signal::Sigrtminplus15, 49),
            (Signal::Sigrtmaxminus14, 50),
            (Signal::Sigrtmax, 64),
        ];
        for (signal, expected) in table {
            assert_eq!(number(signal), Some(expected), "{signal:?}");
        }
        assert_eq!(number(Signal::RuntimeDefault), None);
        let all = (1..=65).map(|it| Signal::try_from(it).expect("no gap"));
        assert!(all.filter_map(number).all(|number| (1..=64).contains(&number)));
    }

    #[test]
    fn numbers_have_one_name_each() {
        for value in (1..=31).chain(34..=64) {
            let signal = from_number(value).expect("every number has a signal");
            assert_eq!(number(signal), Some(value));
        }
        assert_eq!((from_number(6), from_number(29)), (Some(Signal::Sigabrt), Some(Signal::Sigio)));
        assert_eq!((from_number(0), from_number(32), from_number(65)), (None, None, None));
    }
}
