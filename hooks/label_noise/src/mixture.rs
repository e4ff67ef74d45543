//! A mixture of two beta distributions, fitted by expectation maximisation.

/// A beta distribution on (0, 1).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Beta {
    /// First shape, above 0.
    pub alpha: f64,
    /// Second shape, above 0.
    pub beta: f64,
}

impl Beta {
    /// The logarithm of the density at `x`.
    pub fn ln_pdf(&self, x: f64) -> f64 {
        let norm = libm::lgamma(self.alpha + self.beta) - libm::lgamma(self.alpha) - libm::lgamma(self.beta);
        norm + (self.alpha - 1.0) * x.ln() + (self.beta - 1.0) * (1.0 - x).ln()
    }

    /// alpha / (alpha + beta).
    pub fn mean(&self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// The beta of the weighted mean and variance of `values`: the method of moments. `None` if they have no spread.
    fn of_moments(values: &[f64], weights: &[f64]) -> Option<Self> {
        let total: f64 = weights.iter().sum();
        let mean = values.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() / total;
        let var = values.iter().zip(weights).map(|(x, w)| w * (x - mean).powi(2)).sum::<f64>() / total;
        let size = mean * (1.0 - mean) / var - 1.0;
        let (alpha, beta) = (mean * size, (1.0 - mean) * size);
        (alpha.is_finite() && alpha > 0.0 && beta > 0.0).then_some(Self { alpha, beta })
    }
}

/// Two betas with their weights; the second has the larger mean.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaMixture {
    /// The components.
    pub parts: [Beta; 2],
    /// Their shares, together 1.
    pub weights: [f64; 2],
}

impl BetaMixture {
    /// Fits values in (0, 1) by `rounds` rounds of expectation maximisation, with the paper's start (1, 2) and (2, 1).
    ///
    /// ```
    /// use label_noise::BetaMixture;
    /// let values: Vec<f64> = (0..100).map(|i| if i < 80 { 0.05 + 0.001 * f64::from(i) } else { 0.85 + 0.001 * f64::from(i - 80) }).collect();
    /// let fit = BetaMixture::fit(&values, 10);
    /// assert!((fit.weights[1] - 0.2).abs() < 0.01);
    /// assert!(fit.posterior(0.9) > 0.99 && fit.posterior(0.1) < 0.01);
    /// ```
    pub fn fit(values: &[f64], rounds: usize) -> Self {
        let start = [Beta { alpha: 1.0, beta: 2.0 }, Beta { alpha: 2.0, beta: 1.0 }];
        let mut fit = Self { parts: start, weights: [0.5, 0.5] };
        for _ in 0..rounds {
            let high: Vec<f64> = values.iter().map(|x| fit.posterior(*x)).collect();
            let low: Vec<f64> = high.iter().map(|p| 1.0 - p).collect();
            let parts = [Beta::of_moments(values, &low), Beta::of_moments(values, &high)];
            let [Some(a), Some(b)] = parts else { break };
            let share = high.iter().sum::<f64>() / values.len() as f64;
            fit = Self { parts: [a, b], weights: [1.0 - share, share] };
        }
        if fit.parts[0].mean() > fit.parts[1].mean() {
            fit.parts.swap(0, 1);
            fit.weights.swap(0, 1);
        }
        fit
    }

    /// The probability that `x` comes from the second component.
    pub fn posterior(&self, x: f64) -> f64 {
        let ln = |i: usize| self.weights[i].ln() + self.parts[i].ln_pdf(x);
        let (low, high) = (ln(0), ln(1));
        1.0 / (1.0 + (low - high).exp())
    }
}
