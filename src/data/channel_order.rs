//! Which of the three channels of a batch of pictures is the red one.

use crate::config::{Kind, Node};

use super::{Colors, DataLoader, Origin};

impl DataLoader {
    /// The order of the channels in its batches, as far as it can be told: that in which they are read, or which
    /// LoadImageFromFile says, and each Normalize with `to_rgb` turns it round. `config` is the loader's section of a
    /// config, of one that was made of a config.
    pub fn channel_order(&self, config: Option<&Node>) -> Colors {
        let mut order = self.read_order(config);
        config.iter().for_each(|config| turned(config, &mut order));
        order
    }

    /// The order before any transform: files are read with blue first.
    pub(crate) fn read_order(&self, config: Option<&Node>) -> Colors {
        let is_file = !self.dataset().is_empty() && matches!(self.dataset().origin(0), Origin::File(_));
        if is_file || config.is_some_and(loads) { Colors::Bgr } else { Colors::Rgb }
    }
}

/// Whether a pipeline loads pictures from files.
fn loads(node: &Node) -> bool {
    match &*node.kind {
        Kind::Map(entries) => entries.iter().any(|(_, value)| loads(value)),
        Kind::Seq(items) => items.iter().any(loads),
        Kind::Str(text) => text == "LoadImageFromFile",
        _ => false,
    }
}

/// What the transforms of a pipeline make of an order.
fn turned(node: &Node, order: &mut Colors) {
    let text = |key: &str| node.get(key).and_then(Node::as_str);
    let turns = !node.get("to_rgb").is_some_and(|given| matches!(*given.kind, Kind::Bool(false)));
    match (text("type"), *order) {
        (Some("LoadImageFromFile"), _) => {
            *order = if text("channel_order") == Some("rgb") { Colors::Rgb } else { Colors::Bgr };
        }
        (Some("Normalize"), Colors::Bgr) if turns => *order = Colors::Rgb,
        (Some("Normalize"), Colors::Rgb) if turns => *order = Colors::Bgr,
        _ => {}
    }
    match &*node.kind {
        Kind::Map(entries) => entries.iter().for_each(|(_, value)| turned(value, order)),
        Kind::Seq(items) => items.iter().for_each(|item| turned(item, order)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    #[test]
    fn a_pipeline_tells_where_the_red_channel_is() {
        let of = |pipeline: &str| {
            let mut order = Colors::Bgr;
            turned(&parse("c.yaml", &format!("dataset: {{pipeline: [{pipeline}]}}")).unwrap(), &mut order);
            order
        };
        assert_eq!(of("{type: LoadImageFromFile}, {type: RandomFlip}"), Colors::Bgr);
        assert_eq!(of("{type: LoadImageFromFile, channel_order: rgb}"), Colors::Rgb);
        assert_eq!(of("{type: LoadImageFromFile}, {type: Normalize, mean: 1, std: 1}"), Colors::Rgb);
        let nested =
            "{type: LoadImageFromFile}, {type: Compose, transforms: [{type: Normalize, to_rgb: true}]}";
        assert_eq!(of(nested), Colors::Rgb);
        assert_eq!(of("{type: LoadImageFromFile}, {type: Normalize, to_rgb: false}"), Colors::Bgr);
    }
}
