//! The share of its channels that a transition keeps, and the way back from channels to the share.

/// Channels that a transition keeps of `c_in`: `⌊compression · c_in⌋`.
///
/// # Source
/// Paper, §3, *Compression*.
pub(crate) fn kept(compression: f64, c_in: usize) -> usize {
    (compression * c_in as f64).floor() as usize
}

/// A share θ for which every transition keeps `⌊θ · c_in⌋` channels, as those who know a network by its tensors alone have
/// to guess it: ½ or 1 where they fit, otherwise the shortest decimal fraction that does.
///
/// Where no share fits, it is the one that keeps enough everywhere, at most 1; comparing shapes then names the transition
/// that has others.
///
/// # Shapes
/// - `transitions`: `[c_in, c_out]` of each transition in their order; one without input is passed over
///
/// ```
/// use densenet_spec::compression_of;
///
/// assert_eq!(compression_of(&[[256, 128], [512, 256]]), 0.5);
/// assert_eq!(compression_of(&[[256, 179], [512, 358]]), 0.7);
/// ```
pub fn compression_of(transitions: &[[usize; 2]]) -> f64 {
    let transitions = || transitions.iter().filter(|[c_in, _]| *c_in > 0);
    let fits =
        |share: f64| share <= 1.0 && transitions().all(|&[c_in, c_out]| kept(share, c_in) == c_out);
    if let Some(usual) = [0.5, 1.0].into_iter().find(|&share| fits(share)) {
        return usual;
    }
    let lowest = transitions()
        .map(|&[c_in, c_out]| c_out as f64 / c_in as f64)
        .fold(0.0, f64::max);
    // Sixteen digits are more than a share has.
    let shortest = (1..=15).find_map(|digits| {
        let unit = 10f64.powi(digits);
        let share = (lowest * unit).ceil() / unit;
        fits(share).then_some(share)
    });
    shortest.unwrap_or(lowest).clamp(f64::MIN_POSITIVE, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_the_usual_ones_or_short() {
        let cases: [(&[[usize; 2]], f64); 6] = [
            (&[[256, 128], [512, 256]], 0.5),
            (&[[30, 30]], 1.0),
            (&[[256, 179], [512, 358]], 0.7),
            (&[[10, 3]], 0.3),
            (&[], 0.5),
            (&[[0, 7], [30, 30]], 1.0),
        ];
        for (transitions, share) in cases {
            assert_eq!(compression_of(transitions), share, "{transitions:?}");
        }
    }

    #[test]
    fn every_share_that_can_be_meant_comes_back() {
        for percent in 1..=100 {
            let share = f64::from(percent) / 100.0;
            // Enough channels that a hundredth shows.
            let transitions = [[200, kept(share, 200)], [331, kept(share, 331)]];
            let found = compression_of(&transitions);
            for [c_in, c_out] in transitions {
                assert_eq!(kept(found, c_in), c_out, "{share} {found}");
            }
            assert_eq!(found, share);
        }
    }

    #[test]
    fn shares_that_cannot_be_stay_within_bounds() {
        let cases: [&[[usize; 2]]; 4] = [
            &[[10, 1], [10, 9]],
            &[[10, 20]],
            &[[10, 0]],
            &[[usize::MAX, 1], [1, usize::MAX]],
        ];
        for transitions in cases {
            let found = compression_of(transitions);
            assert!(found > 0.0 && found <= 1.0, "{transitions:?} {found}");
        }
    }
}
