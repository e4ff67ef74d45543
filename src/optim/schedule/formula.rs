//! Formulas in configs: `lr * min(1, t / 100) * cos(pi * t / T)`.

use std::iter::Peekable;
use std::str::CharIndices;

use serde::Deserialize;

/// Longer texts are no formula that anybody wrote.
const MAX_BYTES: usize = 4096;
/// Parentheses, calls, signs and powers within each other.
const MAX_DEPTH: usize = 64;

/// What the names in a formula stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names {
    /// What the schedules before this one give.
    pub value: f64,
    /// What the group began with.
    pub base: f64,
    /// Steps since the schedule began.
    pub t: f64,
    /// Steps of the schedule.
    pub length: f64,
}

/// A formula that was understood.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Formula {
    text: String,
    tree: Tree,
}

#[derive(Debug, Clone)]
enum Tree {
    Number(f64),
    Value,
    Base,
    Step,
    Length,
    One(fn(f64) -> f64, Box<Tree>),
    Two(fn(f64, f64) -> f64, Box<Tree>, Box<Tree>),
    /// The second where the first is not 0, else the third.
    If(Box<[Tree; 3]>),
}

/// Functions of one number.
const OF_ONE: [(&str, fn(f64) -> f64); 10] = [
    ("sin", f64::sin),
    ("cos", f64::cos),
    ("tan", f64::tan),
    ("exp", f64::exp),
    ("log", f64::ln),
    ("sqrt", f64::sqrt),
    ("abs", f64::abs),
    ("floor", f64::floor),
    ("ceil", f64::ceil),
    ("round", f64::round_ties_even),
];

/// Functions of two numbers; min and max take more.
const OF_TWO: [(&str, fn(f64, f64) -> f64); 4] =
    [("min", f64::min), ("max", f64::max), ("pow", f64::powf), ("mod", f64::rem_euclid)];

/// The names of values.
const VALUES: [&str; 8] = ["value", "lr", "momentum", "base", "t", "T", "pi", "e"];

impl Formula {
    /// The value of the formula.
    pub(super) fn at(&self, names: Names) -> f64 {
        self.tree.at(names)
    }
}

impl Tree {
    fn at(&self, names: Names) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Value => names.value,
            Self::Base => names.base,
            Self::Step => names.t,
            Self::Length => names.length,
            Self::One(f, a) => f(a.at(names)),
            Self::Two(f, a, b) => f(a.at(names), b.at(names)),
            Self::If(parts) => {
                let [condition, then, other] = &**parts;
                if condition.at(names) == 0.0 { other.at(names) } else { then.at(names) }
            }
        }
    }
}

impl TryFrom<String> for Formula {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() > MAX_BYTES {
            return Err(format!("a formula of more than {MAX_BYTES} bytes"));
        }
        let mut reader = Reader { text: &text, rest: text.char_indices().peekable(), depth: 0 };
        let tree = reader.comparison()?;
        match reader.next_char() {
            None => Ok(Self { tree, text }),
            Some((at, found)) => Err(reader.wrong(at, &format!("`{found}` is not expected"))),
        }
    }
}

impl From<Formula> for String {
    fn from(formula: Formula) -> Self {
        formula.text
    }
}

/// Reads a formula from left to right, a function for each level of binding.
struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    depth: usize,
}

type Read = Result<Tree, String>;

impl Reader<'_> {
    /// `a < b`, which is 1 or 0.
    fn comparison(&mut self) -> Read {
        let left = self.sum()?;
        let Some((_, sign)) = self.next_if(&['<', '>']) else { return Ok(left) };
        let or_equal = self.rest.next_if(|(_, c)| *c == '=').is_some();
        let right = self.sum()?;
        let holds: fn(f64, f64) -> f64 = match (sign, or_equal) {
            ('<', false) => |a, b| f64::from(a < b),
            ('<', true) => |a, b| f64::from(a <= b),
            (_, false) => |a, b| f64::from(a > b),
            (_, true) => |a, b| f64::from(a >= b),
        };
        Ok(two(holds, left, right))
    }

    fn sum(&mut self) -> Read {
        let mut left = self.product()?;
        while let Some((_, sign)) = self.next_if(&['+', '-']) {
            let right = self.product()?;
            left = two(if sign == '+' { |a, b| a + b } else { |a, b| a - b }, left, right);
        }
        Ok(left)
    }

    fn product(&mut self) -> Read {
        let mut left = self.signed()?;
        while let Some((_, sign)) = self.next_if(&['*', '/', '%']) {
            let right = self.signed()?;
            left = match sign {
                '*' => two(|a, b| a * b, left, right),
                '/' => two(|a, b| a / b, left, right),
                _ => two(f64::rem_euclid, left, right),
            };
        }
        Ok(left)
    }

    /// A sign binds weaker than a power, as in Python: `-2^2` is -4.
    fn signed(&mut self) -> Read {
        self.deeper()?;
        let read = match self.next_if(&['+', '-']) {
            Some((_, '-')) => self.signed().map(|of| Tree::One(|a| -a, Box::new(of))),
            Some(_) => self.signed(),
            None => self.power(),
        };
        self.depth -= 1;
        read
    }

    /// `a ^ b` and `a ** b`, from the right.
    fn power(&mut self) -> Read {
        let base = self.atom()?;
        let is_power = match self.peeked() {
            Some((_, '^')) => self.next_char().is_some(),
            Some((at, '*')) if self.text.get(at..).is_some_and(|rest| rest.starts_with("**")) => {
                self.next_char().and(self.next_char()).is_some()
            }
            _ => false,
        };
        if is_power { Ok(two(f64::powf, base, self.signed()?)) } else { Ok(base) }
    }

    fn atom(&mut self) -> Read {
        let Some((at, first)) = self.next_char() else {
            return Err(self.wrong(self.text.len(), "a number, a name or `(` is missing"));
        };
        match first {
            '(' => {
                let inner = self.comparison()?;
                self.expect(')').map(|()| inner)
            }
            '0'..='9' | '.' => self.number(at),
            'a'..='z' | 'A'..='Z' | '_' => self.name(at),
            other => Err(self.wrong(at, &format!("`{other}` is not expected"))),
        }
    }

    fn number(&mut self, at: usize) -> Read {
        let mut last = ' ';
        let mut end = at + 1;
        let goes_on = |c: char, last: char| {
            c.is_ascii_alphanumeric() || c == '.' || (matches!(c, '+' | '-') && matches!(last, 'e' | 'E'))
        };
        while let Some((place, c)) = self.rest.next_if(|(_, c)| goes_on(*c, last)) {
            (end, last) = (place + 1, c);
        }
        let text = self.text.get(at..end).unwrap_or_default();
        let number = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.map(Tree::Number).ok_or_else(|| self.wrong(at, &format!("`{text}` is no number")))
    }

    fn name(&mut self, at: usize) -> Read {
        let mut end = at + 1;
        while let Some((place, _)) = self.rest.next_if(|(_, c)| c.is_ascii_alphanumeric() || *c == '_') {
            end = place + 1;
        }
        let name = self.text.get(at..end).unwrap_or_default();
        if self.next_if(&['(']).is_some() {
            return self.call(at, name);
        }
        Ok(match name {
            "value" | "lr" | "momentum" => Tree::Value,
            "base" => Tree::Base,
            "t" => Tree::Step,
            "T" => Tree::Length,
            "pi" => Tree::Number(std::f64::consts::PI),
            "e" => Tree::Number(std::f64::consts::E),
            _ => return Err(self.wrong(at, &format!("`{name}` is no name: there are {}", VALUES.join(", ")))),
        })
    }

    fn call(&mut self, at: usize, name: &str) -> Read {
        let mut given = vec![self.comparison()?];
        while self.next_if(&[',']).is_some() {
            given.push(self.comparison()?);
        }
        self.expect(')')?;
        let count = given.len();
        let wrong_count = |wants: &str| format!("`{name}` takes {wants}, not {count}");
        if let Some((_, f)) = OF_ONE.iter().find(|(known, _)| *known == name) {
            let [a] = <[Tree; 1]>::try_from(given).map_err(|_| self.wrong(at, &wrong_count("one number")))?;
            return Ok(Tree::One(*f, Box::new(a)));
        }
        if let Some((_, f)) = OF_TWO.iter().find(|(known, _)| *known == name) {
            let many = matches!(name, "min" | "max");
            if count < 2 || (count > 2 && !many) {
                let wants = if many { "two numbers or more" } else { "two numbers" };
                return Err(self.wrong(at, &wrong_count(wants)));
            }
            let all = given.into_iter().reduce(|left, right| two(*f, left, right));
            return all.ok_or_else(|| self.wrong(at, &wrong_count("two numbers")));
        }
        if name == "if" {
            let parts = <[Tree; 3]>::try_from(given).map_err(|_| self.wrong(at, &wrong_count("three")))?;
            return Ok(Tree::If(Box::new(parts)));
        }
        let known: Vec<_> = OF_ONE.iter().map(|(n, _)| *n).chain(OF_TWO.iter().map(|(n, _)| *n)).collect();
        Err(self.wrong(at, &format!("`{name}` is no function: there are {}, if", known.join(", "))))
    }

    fn deeper(&mut self) -> Result<(), String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("a formula of more than {MAX_DEPTH} levels"));
        }
        Ok(())
    }

    fn peeked(&mut self) -> Option<(usize, char)> {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn next_char(&mut self) -> Option<(usize, char)> {
        self.peeked()?;
        self.rest.next()
    }

    /// The next character if it is one of these; `**` is no `*`.
    fn next_if(&mut self, wanted: &[char]) -> Option<(usize, char)> {
        let (_, next) = self.peeked()?;
        if wanted.contains(&next) { self.rest.next() } else { None }
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.next_char() {
            Some((_, found)) if found == wanted => Ok(()),
            Some((at, found)) => Err(self.wrong(at, &format!("`{wanted}` is missing before `{found}`"))),
            None => Err(self.wrong(self.text.len(), &format!("`{wanted}` is missing"))),
        }
    }

    /// A complaint about the character at a byte.
    fn wrong(&self, at: usize, what: &str) -> String {
        let column = self.text.get(..at).unwrap_or(self.text).chars().count() + 1;
        format!("{what}, at character {column} of the formula")
    }
}

fn two(f: fn(f64, f64) -> f64, a: Tree, b: Tree) -> Tree {
    Tree::Two(f, Box::new(a), Box::new(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> f64 {
        let names = Names { value: 0.1, base: 0.2, t: 3.0, length: 10.0 };
        Formula::try_from(text.to_owned()).unwrap().at(names)
    }

    #[test]
    fn formulas_mean_what_python_means() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3 - 4 / 8", 8.5),
            ("-2^2", -4.0),
            ("2 ** 3 ** 2", 512.0),
            ("2^-1", 0.5),
            ("7 % 4 * 2", 6.0),
            ("1 - 2 - 3", -4.0),
            ("lr * min(1, t/100) * cos(pi * t / T)", 0.1 * 0.03 * (std::f64::consts::PI * 0.3).cos()),
            ("max(1, 2, 5, 3)", 5.0),
            ("if(t < 3, 1, if(t <= 3, 2, 3))", 2.0),
            ("base + value + 1e-3 + 1.5E+1", 15.301),
            ("sqrt(abs(-9)) + floor(1.7) + ceil(1.2) + round(2.5)", 8.0),
            ("exp(0) + log(e) + pow(2, 3) + mod(-1, 4)", 13.0),
        ] {
            assert!((value(text) - expected).abs() < 1e-12, "{text}: {}", value(text));
        }
    }

    #[test]
    fn what_is_no_formula_is_told_with_its_place() {
        for (text, says) in [
            ("", "is missing, at character 1"),
            ("1 +", "is missing, at character 4"),
            ("lr * tt", "`tt` is no name: there are value, lr"),
            ("(1", "`)` is missing, at character 3"),
            ("min(1)", "`min` takes two numbers or more, not 1, at character 1"),
            ("si(1)", "`si` is no function: there are sin"),
            ("1..2", "`1..2` is no number"),
            ("2 $ 3", "`$` is not expected, at character 3"),
            ("1 2", "`2` is not expected, at character 3"),
            ("é", "`é` is not expected"),
            ("1e999", "is no number"),
            (&"(".repeat(100), "more than 64 levels"),
            (&"-".repeat(100), "more than 64 levels"),
            (&"1+".repeat(5000), "more than 4096 bytes"),
        ] {
            let told = Formula::try_from(text.to_owned()).unwrap_err();
            assert!(told.contains(says), "{text}: {told}");
        }
    }
}
