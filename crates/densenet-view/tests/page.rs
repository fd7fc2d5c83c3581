//! The page: its data are the architecture's, it is whole, and nothing in it can become markup.

use densenet::weights::{InitMode, initialize};
use densenet_spec::{Architecture, DenseNetConfig, PRESETS, preset};
use densenet_view::{Document, Origin, Subject, page};
use serde_json::Value;

fn document(name: &str, config: &DenseNetConfig, spatial: [usize; 3]) -> (Value, String) {
    let architecture = Architecture::new(config).unwrap();
    let document = Document::of(&Subject {
        name,
        origin: Origin::Preset,
        architecture: &architecture,
        spatial,
        weights: None,
        classes: None,
    })
    .unwrap();
    (
        serde_json::to_value(&document).unwrap(),
        page::html(&document),
    )
}

#[test]
fn every_preset_in_both_dimensions_tells_its_own_numbers() {
    for preset in PRESETS {
        for (dims, spatial) in [(2, [1, 64, 64]), (3, [64, 64, 64])] {
            let config = preset.config(dims).unwrap();
            let (data, html) = document(preset.name, &config, spatial);
            let architecture = Architecture::new(&config).unwrap();
            let trace = architecture.trace(spatial).unwrap();
            assert_eq!(
                data["totals"]["params"],
                architecture.num_parameters() as u64
            );
            assert_eq!(data["totals"]["macs"], trace.macs());
            assert_eq!(
                data["layers"].as_array().unwrap().len(),
                architecture.layers().len()
            );
            for (shown, block) in data["blocks"]
                .as_array()
                .unwrap()
                .iter()
                .zip(architecture.blocks())
            {
                assert_eq!(shown["c_out"], block.c_out);
                assert_eq!(
                    shown["layers"].as_array().unwrap().len(),
                    block.layers.len()
                );
            }
            // No weights: no statistics, no kernels, no map, and the page says so.
            assert_eq!(data["has_weights"], false);
            assert!(data.get("stem").is_none() && data["blocks"][0].get("heat").is_none());
            assert!(data["tensors"][0].get("stats").is_none());
            assert!(data["origin"].as_str().unwrap().contains("no weights"));
            assert!(html.contains(&format!("<title>{}", preset.name)));
        }
    }
}

#[test]
fn weights_bring_statistics_kernels_and_the_map() {
    let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
    config.block_config = vec![3, 2];
    let architecture = Architecture::new(&config).unwrap();
    let state = initialize(&architecture, 0, InitMode::FanIn);
    let classes: Vec<String> = (0..10).map(|i| format!("class {i}")).collect();
    let document = Document::of(&Subject {
        name: "tiny",
        origin: Origin::ModelFile("tiny.safetensors"),
        architecture: &architecture,
        spatial: [1, 32, 32],
        weights: Some(&state),
        classes: Some(&classes),
    })
    .unwrap();
    let data = serde_json::to_value(&document).unwrap();
    for (tensor, parameter) in data["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .zip(architecture.parameters())
    {
        let histogram = tensor["stats"]["histogram"].as_array().unwrap();
        let count: u64 = histogram.iter().map(|n| n.as_u64().unwrap()).sum();
        assert_eq!(count as usize, parameter.len(), "{}", parameter.name);
    }
    // Three layers and the transition, which read 1, 2, 3 and 4 sources.
    let columns = data["blocks"][0]["heat"].as_array().unwrap();
    let lengths: Vec<_> = columns
        .iter()
        .map(|c| c.as_array().unwrap().len())
        .collect();
    assert_eq!(lengths, [1, 2, 3, 4]);
    assert_eq!(data["stem"]["shape"], serde_json::json!([24, 3, 1, 3, 3]));
    assert_eq!(data["classes"][9], "class 9");
}

/// The documents between the two tags.
fn between<'a>(html: &'a str, from: &str, to: &str) -> &'a str {
    html.split_once(from).unwrap().1.split_once(to).unwrap().0
}

#[test]
fn names_out_of_files_stay_text() {
    let mut config = preset("densenet-bc-100-12").unwrap().config(2).unwrap();
    (config.block_config, config.num_classes) = (vec![1], 2);
    let architecture = Architecture::new(&config).unwrap();
    let hostile =
        "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u{2028}{{script}}";
    let classes = vec![hostile.to_string(), "b".to_string()];
    let state = initialize(&architecture, 0, InitMode::FanIn);
    let document = Document::of(&Subject {
        name: hostile,
        origin: Origin::Onnx(hostile),
        architecture: &architecture,
        spatial: [1, 32, 32],
        weights: Some(&state),
        classes: Some(&classes),
    })
    .unwrap();
    let html = page::html(&document);
    assert!(!html.contains("<script>alert") && !html.contains("<img"));
    assert_eq!(html.matches("</script>").count(), 3);
    let data = between(&html, "id=\"data\">", "</script>");
    let back: Value = serde_json::from_str(data).unwrap();
    assert_eq!(back["name"], hostile);
    assert_eq!(back["classes"][0], hostile);
}

/// The policy names the script and the style that stand in the page, so nothing else runs.
#[test]
fn the_policy_fits_the_page() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};
    let config = preset("densenet121").unwrap().config(2).unwrap();
    let (_, html) = document("densenet121", &config, [1, 224, 224]);
    let policy = between(&html, "Content-Security-Policy\" content=\"", "\"");
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let style = between(&html, "<style>", "</style>");
    let script = between(&html, "<script type=\"module\">", "</script>");
    assert!(
        policy.contains(&format!("style-src {};", hash(style))),
        "{policy}"
    );
    assert!(
        policy.contains(&format!("script-src {};", hash(script))),
        "{policy}"
    );
    assert!(policy.starts_with("default-src 'none'"));
    assert!(!policy.contains("unsafe"));
}
