//! Types that other projects have: an unknown name that one of them knows is no slip of the finger.

/// The lines of `elsewhere.txt`: a project, and names of its types.
const NAMES: &str = include_str!("elsewhere.txt");

/// The project that has a type of this name.
pub(crate) fn project(name: &str) -> Option<&'static str> {
    NAMES.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (project, names) = line.split_once(": ")?;
        names.split(' ').any(|known| known == name).then_some(project)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        assert_eq!(project("LabelSmoothLoss"), Some("MMPretrain"));
        assert_eq!(project("TensorboardVisBackend"), Some("MMEngine"));
        assert_eq!(project("RMSprop"), Some("PyTorch"));
        for none in ["", "Label", "Names", "#", "MMPretrain:"] {
            assert_eq!(project(none), None, "{none}");
        }
    }
}
