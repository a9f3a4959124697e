//! The order in which plugins start: depth first along what each requires, in order of registration.

use super::Registration;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    #[error("plugin {uri} is registered twice")]
    Twice { uri: String },
    #[error("plugins require each other in a circle through {uri}")]
    Circle { uri: String },
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    White,
    Grey,
    Black,
}

/// Indices of `registrations` so that everything stands behind what it requires.
pub(super) fn order(registrations: &[Registration]) -> Result<Vec<usize>, GraphError> {
    for (index, registration) in registrations.iter().enumerate() {
        let same = |other: &Registration| other.kind == registration.kind && other.id == registration.id;
        if registrations[..index].iter().any(same) {
            return Err(GraphError::Twice { uri: registration.uri() });
        }
    }
    let mut marks = vec![Mark::White; registrations.len()];
    let mut sorted = Vec::with_capacity(registrations.len());
    for index in 0..registrations.len() {
        visit(index, registrations, &mut marks, &mut sorted)?;
    }
    Ok(sorted)
}

fn visit(
    index: usize,
    registrations: &[Registration],
    marks: &mut [Mark],
    sorted: &mut Vec<usize>,
) -> Result<(), GraphError> {
    match marks[index] {
        Mark::Black => return Ok(()),
        Mark::Grey => {
            return Err(GraphError::Circle { uri: registrations[index].uri() });
        }
        Mark::White => marks[index] = Mark::Grey,
    }
    for kind in registrations[index].requires {
        for (other, registration) in registrations.iter().enumerate() {
            if registration.kind == *kind && other != index {
                visit(other, registrations, marks, sorted)?;
            }
        }
    }
    marks[index] = Mark::Black;
    sorted.push(index);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Exports, Registration};
    use super::*;

    fn plugin(kind: &'static str, id: &'static str, requires: &'static [&'static str]) -> Registration {
        Registration::new(kind, id, requires, |_, _: toml::Table| async { Ok(Exports::none()) })
    }

    #[test]
    fn requirements_come_first() {
        let set = [plugin("c", "x", &["b", "a"]), plugin("b", "x", &["a"]), plugin("a", "x", &[])];
        assert_eq!(order(&set), Ok(vec![2, 1, 0]));
    }

    #[test]
    fn circles_and_twins_are_refused() {
        let circle = [plugin("a", "x", &["b"]), plugin("b", "x", &["a"])];
        assert_eq!(order(&circle), Err(GraphError::Circle { uri: "a.x".into() }));
        let twins = [plugin("a", "x", &[]), plugin("a", "x", &[])];
        assert_eq!(order(&twins), Err(GraphError::Twice { uri: "a.x".into() }));
    }
}
