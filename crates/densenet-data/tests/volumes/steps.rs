//! Every reader and every step against the programs people compare with.

use densenet_data::{
    Clip, Normalize, Orientation, Preprocessing, Scale, VolumeSize, VolumeSteps, decode_volume,
    npy, volume::decode_volume_bytes,
};

use super::{assert_golden, golden, values};

fn prepared(steps: VolumeSteps) -> ([usize; 3], Vec<f32>) {
    let volume = decode_volume(&golden("oblique.nii")).unwrap();
    let preprocessing = Preprocessing {
        volume: Some(steps),
        scale: Scale::None,
        ..Preprocessing::plain(1)
    };
    let out = preprocessing.apply(&volume).unwrap();
    (out.spatial, out.data)
}

fn ras() -> VolumeSteps {
    VolumeSteps {
        orientation: Some(Orientation::RAS),
        ..VolumeSteps::default()
    }
}

#[test]
fn a_scaled_scan_is_read_as_nibabel_reads_it() {
    for name in ["oblique.nii", "two_members.nii.gz"] {
        let volume = decode_volume(&golden(name)).unwrap();
        assert_golden("oblique", volume.spatial(), values(&volume), 0.0);
        let spacing = volume.space().unwrap().spacing();
        let expected = [3.5, 1.5, 2.0];
        assert!(
            spacing
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-5),
            "{spacing:?}"
        );
    }
}

#[test]
fn every_type_order_and_version_gives_the_same_numbers() {
    for kind in ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"] {
        let volume = decode_volume(&golden(&format!("kind_{kind}.nii"))).unwrap();
        assert_golden("kinds", volume.spatial(), values(&volume), 0.0);
        assert_eq!(volume.space().unwrap().spacing(), [3.0, 2.0, 1.0], "{kind}");
    }
}

#[test]
fn turning_moves_voxels_as_nibabel_and_monai_do() {
    let (spatial, data) = prepared(ras());
    assert_golden("oblique_ras", spatial, &data, 0.0);
    assert_golden("ras_monai", spatial, &data, 0.0);
}

#[test]
fn values_are_brought_to_scale_as_monai_does() {
    // MONAI computes in f32: a few roundings of numbers up to a few units.
    for (name, clip, normalize) in [
        ("zscore", None, Normalize::Zscore),
        ("zscore_nonzero", None, Normalize::ZscoreNonzero),
        (
            "window",
            Some(Clip::Window([20.0, 90.0])),
            Normalize::Minmax,
        ),
        (
            "percentiles",
            Some(Clip::Percentiles([5.0, 95.0])),
            Normalize::Minmax,
        ),
    ] {
        let (spatial, data) = prepared(VolumeSteps {
            clip,
            normalize,
            ..ras()
        });
        assert_golden(name, spatial, &data, 5e-6);
    }
}

#[test]
fn a_finer_spacing_is_linear_as_monai_has_it() {
    let (spatial, data) = prepared(VolumeSteps {
        spacing: Some([0.75, 1.75, 1.0]),
        ..ras()
    });
    // Values go to thousands; MONAI interpolates in f32 at positions that it rounds to f32.
    assert_golden("spacing_half", spatial, &data, 2e-2);
}

#[test]
fn a_coarser_spacing_averages_as_torch_does() {
    let (spatial, data) = prepared(VolumeSteps {
        spacing: Some([3.0, 7.0, 4.0]),
        ..ras()
    });
    // As below.
    assert_golden("spacing_double", spatial, &data, 1.5e-3);
}

#[test]
fn each_channel_is_scaled_alone_as_monai_does() {
    let (spatial, first) = prepared(ras());
    let [d, h, w] = spatial;
    let both: Vec<f32> = first.iter().flat_map(|&v| [v, -3.0 * v + 7.0]).collect();
    let bytes = npy::to_bytes(&[d, h, w, 2], &both).unwrap();
    let volume = decode_volume_bytes("two.npy", &bytes).unwrap();
    let preprocessing = Preprocessing {
        volume: Some(VolumeSteps {
            normalize: Normalize::Zscore,
            ..ras()
        }),
        scale: Scale::None,
        ..Preprocessing::plain(2)
    };
    let out = preprocessing.apply(&volume).unwrap();
    for (channel, name) in ["zscore", "zscore_second"].into_iter().enumerate() {
        let own: Vec<f32> = out.data.iter().skip(channel).step_by(2).copied().collect();
        assert_golden(name, out.spatial, &own, 5e-6);
    }
}

#[test]
fn windows_begin_where_monais_do() {
    for (name, size) in [
        ("odd", [27, 10, 9]),
        ("even", [26, 31, 12]),
        ("pad", [29, 18, 23]),
        ("cut", [11, 5, 7]),
    ] {
        let (spatial, data) = prepared(VolumeSteps {
            size: Some(VolumeSize::Crop(size)),
            ..ras()
        });
        assert_golden(&format!("crop_{name}"), spatial, &data, 0.0);
    }
}

#[test]
fn sizes_grow_and_shrink_as_in_torch() {
    for (name, size) in [("resize_grown", [50, 40, 30]), ("resize_shrunk", [5, 9, 7])] {
        let (spatial, data) = prepared(VolumeSteps {
            size: Some(VolumeSize::Resize(size)),
            ..ras()
        });
        // Three roundings to f32, each of at most 2^-11, of values up to 2^13.
        assert_golden(name, spatial, &data, 1.5e-3);
    }
}

#[test]
fn a_window_is_cut_from_the_middle_or_surrounded() {
    let (full, all) = prepared(ras());
    let (spatial, data) = prepared(VolumeSteps {
        size: Some(VolumeSize::Crop([full[0] + 4, full[1] - 4, full[2]])),
        ..ras()
    });
    assert_eq!(spatial, [full[0] + 4, full[1] - 4, full[2]]);
    let least = all.iter().copied().fold(f32::INFINITY, f32::min);
    let slice = spatial[1] * spatial[2];
    assert!(data[..2 * slice].iter().all(|&v| v == least));
    let row = 2 * full[2];
    assert_eq!(
        data[2 * slice..2 * slice + full[2]],
        all[row..row + full[2]]
    );
}

#[test]
fn the_place_in_the_patient_is_followed() {
    let volume = decode_volume(&golden("oblique.nii")).unwrap();
    let preprocessing = Preprocessing {
        volume: Some(VolumeSteps {
            spacing: Some([2.0, 2.0, 2.0]),
            size: Some(VolumeSize::Crop([10, 12, 14])),
            ..ras()
        }),
        ..Preprocessing::plain(1)
    };
    let out = preprocessing.apply(&volume).unwrap();
    let middle = |spatial: [usize; 3]| spatial.map(|n| (n as f64 - 1.0) / 2.0);
    let (before, after) = (
        volume.space().unwrap().place(middle(volume.spatial())),
        out.space.unwrap().place(middle(out.spatial)),
    );
    // Resampling keeps the middle; the window may be half a voxel beside it along each axis.
    let apart: f64 = before.iter().zip(after).map(|(a, b)| (a - b).powi(2)).sum();
    assert!(apart.sqrt() <= 3f64.sqrt() + 1e-9, "{apart}");
    assert!(
        out.space
            .unwrap()
            .spacing()
            .iter()
            .all(|s| (s - 2.0).abs() < 1e-6)
    );
}

#[test]
fn steps_are_stored_and_read_again() {
    let preprocessing = Preprocessing {
        volume: Some(VolumeSteps {
            spacing: Some([1.5, 1.0, 1.0]),
            clip: Some(Clip::Window([-1000.0, 400.0])),
            normalize: Normalize::Minmax,
            size: Some(VolumeSize::Crop([64, 96, 96])),
            ..ras()
        }),
        ..Preprocessing::plain(2)
    };
    let value = preprocessing.to_value();
    assert_eq!(
        value["volume"].to_string(),
        r#"{"orientation":"RAS","spacing":[1.5,1.0,1.0],"clip":{"window":[-1000.0,400.0]},"normalize":"minmax","size":{"crop":[64,96,96]},"non_finite":"refuse"}"#
    );
    assert_eq!(Preprocessing::from_value(&value), Ok(preprocessing.clone()));
    let volume = decode_volume(&golden("oblique.nii")).unwrap();
    let error = preprocessing.apply(&volume).unwrap_err();
    assert_eq!(error.what(), "1 channels, where 2 are needed");
    let error = Preprocessing::plain(1).apply(&volume).unwrap_err();
    assert!(error.what().contains("trained on images"), "{error}");
}
