//! Connectionist temporal classification: the forward and backward sums over all paths through a sequence.

use crate::base::Elem;

/// The working memory of sequences over one set of classes.
#[derive(Debug)]
pub struct Ctc {
    classes: usize,
    blank: usize,
    /// log p of each step and class.
    log_p: Vec<f64>,
    /// log of the sum over all ways from the start to a state, and from there to the end; a state is a label or one of
    /// the blanks around it, 2 S + 1 in each step.
    alpha: Vec<f64>,
    beta: Vec<f64>,
    /// log of the sum over all ways through a class in one step.
    through: Vec<f64>,
}

impl Ctc {
    /// For scores of this many classes, of which one is the blank.
    pub fn new(classes: usize, blank: usize) -> Self {
        let none = Vec::new;
        Self { classes, blank, log_p: none(), alpha: none(), beta: none(), through: none() }
    }

    /// `-log p(labels)` of scores, steps × classes, whose softmax are the probabilities; `slope` becomes its derivative
    /// by the scores. If the steps are too few for the labels the loss is infinite, and the slope NaN as in PyTorch.
    pub fn loss(&mut self, scores: &[Elem], labels: &[usize], slope: &mut [Elem]) -> f64 {
        let (k, states) = (self.classes, 2 * labels.len() + 1);
        assert!(scores.len() == slope.len() && scores.len().is_multiple_of(k) && self.blank < k);
        let steps = scores.len() / k;
        if steps == 0 {
            return if labels.is_empty() { 0.0 } else { f64::INFINITY };
        }
        self.log_softmax(scores);
        let class = |state: usize| if state.is_multiple_of(2) { self.blank } else { labels[state / 2] };
        // A blank between two labels may be left out where they differ.
        let skips = |state: usize| state % 2 == 1 && state >= 2 && class(state) != class(state - 2);
        fill(&mut self.alpha, steps * states);
        fill(&mut self.beta, steps * states);
        for t in 0..steps {
            for s in 0..states {
                let before = |s: usize| self.alpha[(t - 1) * states + s];
                let sum = match t {
                    0 => {
                        if s < 2 {
                            0.0
                        } else {
                            f64::NEG_INFINITY
                        }
                    }
                    _ => log_sum([
                        before(s),
                        if s > 0 { before(s - 1) } else { f64::NEG_INFINITY },
                        if skips(s) { before(s - 2) } else { f64::NEG_INFINITY },
                    ]),
                };
                self.alpha[t * states + s] = sum + self.log_p[t * k + class(s)];
            }
        }
        for t in (0..steps).rev() {
            for s in 0..states {
                let after = |s: usize| self.beta[(t + 1) * states + s] + self.log_p[(t + 1) * k + class(s)];
                self.beta[t * states + s] = match steps - 1 - t {
                    0 => {
                        if s + 2 >= states {
                            0.0
                        } else {
                            f64::NEG_INFINITY
                        }
                    }
                    _ => log_sum([
                        after(s),
                        if s + 1 < states { after(s + 1) } else { f64::NEG_INFINITY },
                        if s + 2 < states && skips(s + 2) { after(s + 2) } else { f64::NEG_INFINITY },
                    ]),
                };
            }
        }
        let last = &self.alpha[(steps - 1) * states..];
        let all = log_sum([
            last[states - 1],
            if states > 1 { last[states - 2] } else { f64::NEG_INFINITY },
            f64::NEG_INFINITY,
        ]);
        for t in 0..steps {
            fill(&mut self.through, k);
            for s in 0..states {
                let (at, c) = (t * states + s, class(s));
                let own = self.alpha[at] + self.beta[at];
                self.through[c] = log_sum([self.through[c], own, f64::NEG_INFINITY]);
            }
            for c in 0..k {
                slope[t * k + c] =
                    (libm::exp(self.log_p[t * k + c]) - libm::exp(self.through[c] - all)) as Elem;
            }
        }
        -all
    }

    fn log_softmax(&mut self, scores: &[Elem]) {
        self.log_p.clear();
        for row in scores.chunks_exact(self.classes) {
            let most = row.iter().fold(f64::NEG_INFINITY, |most, x| most.max(f64::from(*x)));
            let rest = libm::log(row.iter().map(|x| libm::exp(f64::from(*x) - most)).sum());
            self.log_p.extend(row.iter().map(|x| f64::from(*x) - most - rest));
        }
    }
}

fn fill(values: &mut Vec<f64>, len: usize) {
    values.clear();
    values.resize(len, f64::NEG_INFINITY);
}

/// `log(Σ eˣ)`.
fn log_sum(x: [f64; 3]) -> f64 {
    let most = x[0].max(x[1]).max(x[2]);
    // `max` drops a NaN, the sum does not.
    if most == f64::NEG_INFINITY {
        return x.iter().sum();
    }
    most + libm::log(x.iter().map(|x| libm::exp(x - most)).sum())
}
