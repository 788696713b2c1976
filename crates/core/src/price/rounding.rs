//! The prices that a market allows.

use super::exact::{Exact, Split, divide};

/// The prices that a market allows, and which of two neighbours a price between them becomes.
///
/// Allowed are `ending + k × increment` for every k ≥ 0, in minor units of the market's currency: with the increment 100
/// and the ending 99 the prices 0.99, 1.99, 2.99 …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounding {
    increment: u32,
    mode: RoundingMode,
    ending: Option<u32>,
}

/// Where a price between two allowed prices goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundingMode {
    /// To the nearer one; from the middle to the one with the even k.
    HalfEven,
    /// To the higher one.
    Up,
    /// To the lower one.
    Down,
}

impl RoundingMode {
    /// Parses a name: `half-even`, `up` or `down`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::HalfEven, Self::Up, Self::Down].into_iter().find(|mode| mode.as_str() == name)
    }

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HalfEven => "half-even",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Default for Rounding {
    /// Half-even to the minor unit.
    fn default() -> Self {
        Self::MINOR_UNIT
    }
}

impl Rounding {
    /// The largest increment, in minor units.
    pub const MAX_INCREMENT: i64 = 999_999;
    /// Half-even to the minor unit.
    pub(super) const MINOR_UNIT: Self = Self { increment: 1, mode: RoundingMode::HalfEven, ending: None };

    /// A rounding to multiples of `increment`, or to those and `ending` more, in minor units. `None` when the increment
    /// is not within 1 … [`Rounding::MAX_INCREMENT`], or the ending not within 0 … increment − 1.
    pub fn new(increment: i64, mode: RoundingMode, ending: Option<i64>) -> Option<Self> {
        let is_valid = (1..=Self::MAX_INCREMENT).contains(&increment)
            && ending.is_none_or(|ending| (0..increment).contains(&ending));
        if !is_valid {
            return None;
        }
        let ending = ending.map(u32::try_from).transpose().ok()?;
        Some(Self { increment: u32::try_from(increment).ok()?, mode, ending })
    }

    /// Distance of two neighbouring prices, in minor units.
    pub const fn increment(self) -> u32 {
        self.increment
    }

    /// Where a price between two allowed prices goes.
    pub const fn mode(self) -> RoundingMode {
        self.mode
    }

    /// The least price, in minor units, from which the others lie whole increments away; none means 0.
    pub const fn ending(self) -> Option<u32> {
        self.ending
    }

    /// The allowed price for an amount. Zero stays zero, and another amount below the ending becomes the ending.
    pub(super) fn round(self, amount: Exact) -> u128 {
        let Split { whole, fraction, unit } = amount.split();
        if whole == 0 && fraction == 0 {
            return 0;
        }
        let Some(above) = whole.checked_sub(self.lowest()) else { return self.lowest() };
        let (steps, rest) = self.steps(above);
        let rounds_up = match self.mode {
            RoundingMode::Down => false,
            RoundingMode::Up => rest > 0 || fraction > 0,
            RoundingMode::HalfEven => {
                let twice_the_rest = 2 * (rest * unit + fraction);
                let middle_and_odd = steps % 2 == 1 && twice_the_rest == self.step() * unit;
                middle_and_odd || twice_the_rest > self.step() * unit
            }
        };
        self.lowest() + (steps + u128::from(rounds_up)) * self.step()
    }

    /// The least allowed price that is not below `minor`.
    pub(super) fn at_or_above(self, minor: u128) -> u128 {
        let (steps, rest) = self.steps(minor.saturating_sub(self.lowest()));
        self.lowest() + (steps + u128::from(rest > 0)) * self.step()
    }

    /// The greatest allowed price that is not above `minor`; `None` if all are above.
    pub(super) fn at_or_below(self, minor: u128) -> Option<u128> {
        let (steps, _) = self.steps(minor.checked_sub(self.lowest())?);
        Some(self.lowest() + steps * self.step())
    }

    fn steps(self, minor: u128) -> (u128, u128) {
        if self.increment == 1 { (minor, 0) } else { divide(minor, self.step()) }
    }

    fn step(self) -> u128 {
        u128::from(self.increment)
    }

    fn lowest(self) -> u128 {
        u128::from(self.ending.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_has_bounds_and_an_ending_is_less() {
        let new = |increment, ending| Rounding::new(increment, RoundingMode::Up, ending);
        for (increment, ending) in [(1, None), (1, Some(0)), (100, Some(99)), (999_999, Some(999_998))] {
            let rounding = new(increment, ending).unwrap();
            assert_eq!(i64::from(rounding.increment()), increment);
            assert_eq!(rounding.ending().map(i64::from), ending);
        }
        for (increment, ending) in [
            (0, None),
            (-1, None),
            (1_000_000, None),
            (1, Some(1)),
            (100, Some(100)),
            (100, Some(-1)),
            (i64::MAX, None),
        ] {
            assert_eq!(new(increment, ending), None, "{increment} {ending:?}");
        }
    }

    #[test]
    fn a_mode_reads_back_by_its_name() {
        for mode in [RoundingMode::HalfEven, RoundingMode::Up, RoundingMode::Down] {
            assert_eq!(RoundingMode::parse(mode.as_str()), Some(mode));
        }
        assert_eq!(RoundingMode::parse("Up"), None);
    }
}
