//! Between files, which have the channels in front, and the engine, which has them last.

use densenet::input::{to_channels_first, to_channels_last};
use densenet_data::npy::Array;
use densenet_spec::DenseNetConfig;

/// A batch as the engine wants it: `[batch][depth][height][width][channel]`.
#[derive(Debug, PartialEq)]
pub struct Batch {
    pub data: Vec<f32>,
    pub batch: usize,
    /// `[depth, height, width]`; depth 1 in 2-D.
    pub spatial: [usize; 3],
}

/// Turns `batch × channels × [depth ×] height × width` channels-last.
///
/// # Errors
/// The rank or the number of channels is not the network's, or an axis is empty: what is wrong and what to give.
pub fn from_array(array: &Array, config: &DenseNetConfig) -> Result<Batch, String> {
    let axes = match config.spatial_dims {
        2 => "batch × channels × height × width",
        _ => "batch × channels × depth × height × width",
    };
    let shape = array.shape.as_slice();
    let (batch, channels, spatial) = match (config.spatial_dims, shape) {
        (2, &[batch, channels, height, width]) => (batch, channels, [1, height, width]),
        (3, &[batch, channels, depth, height, width]) => (batch, channels, [depth, height, width]),
        (dims, _) => {
            return Err(format!(
                "an array of shape {shape:?}, but the network is {dims}-D — give {axes}"
            ));
        }
    };
    if channels != config.in_channels {
        return Err(format!(
            "{channels} channels (shape {shape:?}), but the network takes {} — give {axes}",
            config.in_channels
        ));
    }
    if shape.contains(&0) {
        return Err(format!(
            "an empty array of shape {shape:?} — give at least one sample"
        ));
    }
    let pixels = spatial.iter().product();
    Ok(Batch {
        data: to_channels_last(&array.data, channels, pixels),
        batch,
        spatial,
    })
}

/// Turns `[n, d, h, w, c]` into `[n, c, (d,) h, w]`.
pub fn to_array(shape: [usize; 5], data: &[f32], config: &DenseNetConfig) -> Array {
    let [batch, depth, height, width, channels] = shape;
    let spatial = [depth, height, width];
    let space = &spatial[3 - config.spatial_dims..];
    Array {
        shape: [&[batch, channels], space].concat(),
        data: to_channels_first(data, channels, spatial.iter().product()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use densenet_spec::preset;

    fn array(shape: &[usize]) -> Array {
        let count = shape.iter().product::<usize>();
        Array {
            shape: shape.to_vec(),
            data: (0..count).map(|i| i as f32).collect(),
        }
    }

    #[test]
    fn channels_move_to_the_end_and_back() {
        let config = preset("densenet121").unwrap().config(2).unwrap();
        let array = array(&[2, 3, 1, 2]);
        let batch = from_array(&array, &config).unwrap();
        assert_eq!(batch.spatial, [1, 1, 2]);
        assert_eq!(
            batch.data,
            [0., 2., 4., 1., 3., 5., 6., 8., 10., 7., 9., 11.]
        );
        assert_eq!(to_array([2, 1, 1, 2, 3], &batch.data, &config), array);
    }

    #[test]
    fn volumes_keep_their_depth() {
        let config = preset("densenet121").unwrap().config(3).unwrap();
        let batch = from_array(&array(&[1, 1, 4, 3, 2]), &config).unwrap();
        assert_eq!(batch.spatial, [4, 3, 2]);
        let back = to_array([1, 4, 3, 2, 1], &batch.data, &config);
        assert_eq!(back.shape, [1, 1, 4, 3, 2]);
    }

    #[test]
    fn what_does_not_fit_is_explained() {
        let config = preset("densenet121").unwrap().config(2).unwrap();
        for (shape, part) in [
            (&[3usize, 8, 8] as &[_], "batch × channels × height × width"),
            (&[1, 1, 8, 8], "takes 3"),
            (&[0, 3, 8, 8], "empty"),
            (&[1, 3, 0, 8], "empty"),
        ] {
            let message = from_array(&array(shape), &config).unwrap_err();
            assert!(
                message.contains(part) && message.contains(" — "),
                "{message}"
            );
        }
    }
}
