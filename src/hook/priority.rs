//! Where a hook stands in the order.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// 0 runs first, 100 last. In YAML a number or one of nine names, in any case:
///
/// ```
/// use shanty::hook::Priority;
/// assert_eq!("below_normal".parse::<Priority>().unwrap(), Priority::BELOW_NORMAL);
/// assert_eq!("49".parse::<Priority>().unwrap().value(), 49);
/// assert!("101".parse::<Priority>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// 0
    pub const HIGHEST: Self = Self(0);
    /// 10
    pub const VERY_HIGH: Self = Self(10);
    /// 30
    pub const HIGH: Self = Self(30);
    /// 40
    pub const ABOVE_NORMAL: Self = Self(40);
    /// 50
    pub const NORMAL: Self = Self(50);
    /// 60
    pub const BELOW_NORMAL: Self = Self(60);
    /// 70
    pub const LOW: Self = Self(70);
    /// 90
    pub const VERY_LOW: Self = Self(90);
    /// 100
    pub const LOWEST: Self = Self(100);

    const NAMES: [(&'static str, Self); 9] = [
        ("HIGHEST", Self::HIGHEST),
        ("VERY_HIGH", Self::VERY_HIGH),
        ("HIGH", Self::HIGH),
        ("ABOVE_NORMAL", Self::ABOVE_NORMAL),
        ("NORMAL", Self::NORMAL),
        ("BELOW_NORMAL", Self::BELOW_NORMAL),
        ("LOW", Self::LOW),
        ("VERY_LOW", Self::VERY_LOW),
        ("LOWEST", Self::LOWEST),
    ];

    /// A priority of 0..=100.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 { Some(Self(value)) } else { None }
    }

    /// The number.
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Self::NAMES.iter().find(|(_, p)| p == self) {
            Some((name, _)) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl std::str::FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, found)) = Self::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*found);
        }
        text.parse().ok().and_then(Self::new).ok_or_else(|| {
            let names = Self::NAMES.map(|(name, p)| format!("{name} ({})", p.0));
            format!("`{text}` is no priority: give a number of 0..=100 or one of {}", names.join(", "))
        })
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Priority;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a priority: a number of 0..=100 or a name such as NORMAL")
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Priority, E> {
                v.to_string().parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Priority, E> {
                v.to_string().parse().map_err(E::custom)
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Priority, E> {
                v.parse().map_err(E::custom)
            }
        }
        de.deserialize_any(Visitor)
    }
}

impl JsonSchema for Priority {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Priority".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = Self::NAMES.map(|(name, _)| name).join("|");
        json_schema!({
            "description": "0 runs first, 100 last; or a name.",
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": 100 },
                { "type": "string", "pattern": format!("^(?i)({names})$").replace("(?i)", "") }
            ]
        })
    }
}
