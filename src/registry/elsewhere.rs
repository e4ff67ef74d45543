//! Types that other projects have, and ours under their names: an unknown name that one of them knows is no slip of the
//! finger.

/// The lines of `elsewhere.txt`: a project, and names of its types.
const NAMES: &str = include_str!("elsewhere.txt");

/// The project that has a type of this name.
pub(crate) fn project(name: &str) -> Option<&'static str> {
    NAMES.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (project, names) = line.split_once(": ")?;
        names.split(' ').any(|known| known == name).then_some(project)
    })
}

/// The lines of `aliases.txt`: a kind, a name of ours, and the names that others give it.
const ALIASES: &str = include_str!("aliases.txt");

/// Our name for the type of this kind that others call `name`.
pub(crate) fn alias(kind: &str, name: &str) -> Option<&'static str> {
    // MMPretrain names torchvision's transforms `torchvision/…`.
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase().replace('_', "");
    ALIASES.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let (ours, theirs) = line.split_once(": ")?;
        let (own, ours) = ours.split_once(' ')?;
        (own == kind && theirs.split(' ').any(|known| known == name)).then_some(ours)
    })
}

/// What people look for among the types of a kind, in any letters, and that is no type here: where it is instead.
const ADVICE: &[(&str, &str, &str)] = &[(
    "optimizer",
    "sam",
    "SAM works with any optimizer: `sam: {rho: 0.05}` stands beside `optimizer`, see docs/optimizers.md",
)];

/// Where to find what is no type of this kind.
pub(crate) fn advice(kind: &str, name: &str) -> Option<&'static str> {
    let known = ADVICE.iter().find(|(own, word, _)| *own == kind && name.eq_ignore_ascii_case(word));
    known.map(|(.., text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people call a type leads to one that there is, and to one alone.
    #[test]
    fn aliases_lead_to_types() {
        let mut seen = std::collections::BTreeSet::new();
        for line in ALIASES.lines().filter(|line| !line.starts_with('#')) {
            let (ours, theirs) = line.split_once(": ").unwrap();
            let (kind, ours) = ours.split_once(' ').unwrap();
            assert!(super::super::entries(kind).any(|entry| entry.name == ours), "{line}");
            for name in theirs.split(' ') {
                assert!(seen.insert((kind, name)), "{name} stands twice");
                assert!(!super::super::entries(kind).any(|entry| entry.name == name), "{name} is a type");
            }
        }
        assert_eq!(alias("loss", "Mean_Absolute_Error"), Some("L1Loss"));
        assert_eq!(alias("metric", "MeanAbsoluteError"), Some("MAE"));
        assert_eq!(alias("transform", "torchvision/RandomHorizontalFlip"), Some("RandomFlip"));
        assert!(advice("optimizer", "SAM").is_some() && advice("hook", "SAM").is_none());
        assert_eq!((alias("loss", "L1Loss"), alias("hook", "MAE")), (None, None));
    }

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
