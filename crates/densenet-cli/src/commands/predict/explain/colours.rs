//! Colours of values, and how much of the picture they hide.

use densenet::explain::Map;

use super::method::Method;

/// From a map's values to colours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// What gets the full colour.
    pub most: f32,
    /// Whether values below zero have colours of their own.
    pub signed: bool,
    /// Whether larger values exist.
    pub clipped: bool,
}

/// Red, green, blue.
pub type Rgb = [u8; 3];

/// The part of integrated gradients' values whose colours differ: single pixels stand out far.
const SHARE: f64 = 0.995;

/// Warm colours, from little to much; evidence for the class.
const WARM: [Rgb; 4] = [[255, 236, 140], [254, 178, 60], [236, 62, 30], [140, 0, 38]];
/// Cold colours; evidence against it.
const COLD: [Rgb; 4] = [
    [190, 220, 250],
    [107, 174, 230],
    [33, 100, 190],
    [8, 40, 107],
];
/// How much of the picture the strongest value hides.
const OPACITY: f32 = 0.75;

impl Scale {
    /// From zero to the largest value; below zero likewise, where the method has such values.
    pub fn of(map: &Map, method: Method) -> Self {
        let [low, high] = map.range();
        let largest = high.max(-low);
        let most = match method {
            Method::IntegratedGradients => {
                let mut sizes: Vec<f32> = map.data.iter().map(|v| v.abs()).collect();
                sizes.sort_by(f32::total_cmp);
                let place = (sizes.len().saturating_sub(1) as f64 * SHARE) as usize;
                sizes
                    .get(place)
                    .copied()
                    .filter(|&v| v > 0.0)
                    .unwrap_or(largest)
            }
            _ => largest,
        };
        Scale {
            most: if most > 0.0 { most } else { 1.0 },
            signed: method != Method::Gradcam,
            clipped: most > 0.0 && largest > most,
        }
    }

    /// The colour of a value laid over `ground`.
    pub fn over(&self, value: f32, ground: Rgb) -> Rgb {
        let share = (value / self.most).clamp(-1.0, 1.0);
        let strength = share.abs();
        let colours = if share < 0.0 { &COLD } else { &WARM };
        let place = strength * (colours.len() - 1) as f32;
        let first = (place as usize).min(colours.len() - 2);
        let rest = place - first as f32;
        let opacity = OPACITY * strength.sqrt();
        std::array::from_fn(|i| {
            let [a, b] = [colours[first][i], colours[first + 1][i]].map(f32::from);
            let colour = a + rest * (b - a);
            let ground = f32::from(ground[i]);
            (ground + opacity * (colour - ground))
                .round()
                .clamp(0.0, 255.0) as u8
        })
    }

    /// The values beside the colour bar, from the top down.
    pub fn ticks(&self) -> Vec<f32> {
        let shares: &[f32] = match self.signed {
            true => &[1.0, 0.5, 0.0, -0.5, -1.0],
            false => &[1.0, 0.75, 0.5, 0.25, 0.0],
        };
        shares.iter().map(|s| s * self.most).collect()
    }

    /// The value at a place of the bar, 0 at the top and 1 at the bottom.
    pub fn at(&self, place: f32) -> f32 {
        match self.signed {
            true => self.most * (1.0 - 2.0 * place),
            false => self.most * (1.0 - place),
        }
    }

    /// A tick's text; the ends say if there is more beyond.
    pub fn label(&self, value: f32) -> String {
        let size = value.abs();
        let number = match size {
            0.0 => "0".to_string(),
            0.001..1000.0 => {
                let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
                format!("{value:.digits$}")
            }
            _ => format!("{value:.1e}"),
        };
        match (self.clipped && size >= self.most, value > 0.0) {
            (true, true) => format!(">{number}"),
            (true, false) => format!("<{number}"),
            _ => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_the_picture_and_much_hides_it() {
        let map = Map {
            shape: [1, 1, 3],
            data: vec![-2.0, 0.0, 4.0],
        };
        let scale = Scale::of(&map, Method::Cam);
        assert_eq!(
            (scale.most, scale.signed, scale.clipped),
            (4.0, true, false)
        );
        let grey = [100; 3];
        assert_eq!(scale.over(0.0, grey), grey);
        let [red, _, blue] = scale.over(4.0, grey);
        assert!(red > blue);
        let [red, _, blue] = scale.over(-4.0, grey);
        assert!(red < blue);
        assert_eq!(scale.over(f32::NAN, grey).len(), 3);
        assert_eq!(scale.label(-0.123_45), "-0.123");
        assert_eq!(scale.label(12.345), "12.3");
        assert_eq!(scale.label(0.000_012), "1.2e-5");
        let zeros = Map {
            shape: [1, 1, 1],
            data: vec![0.0],
        };
        assert_eq!(Scale::of(&zeros, Method::Gradcam).most, 1.0);
    }

    #[test]
    fn single_pixels_do_not_dim_all_others() {
        let mut data = vec![0.01; 1000];
        data[7] = -5.0;
        let map = Map {
            shape: [1, 1, 1000],
            data,
        };
        let scale = Scale::of(&map, Method::IntegratedGradients);
        assert_eq!((scale.most, scale.clipped), (0.01, true));
        assert_eq!(scale.label(-0.01), "<-0.0100");
    }
}
