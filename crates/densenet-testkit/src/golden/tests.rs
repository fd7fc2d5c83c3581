//! The reader, on small folders written for the purpose.

use std::fs;

use super::*;

fn folder(name: &str, index: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("densenet-golden-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("index.json"), index).unwrap();
    folder
}

fn failure(name: &str, index: &str) -> GoldenError {
    let folder = folder(name, index);
    let error = Goldens::load(&folder).unwrap_err();
    fs::remove_dir_all(&folder).unwrap();
    error
}

fn refusal(name: &str, index: &str) -> String {
    failure(name, index).reason
}

fn named_file(name: &str, index: &str) -> String {
    let path = failure(name, index).path;
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_broken_index_is_named() {
    let missing = Goldens::load(Path::new("no/such/folder")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("no/such/folder/index.json: "),
        "{missing}"
    );
    assert!(refusal("json", "{").contains("EOF"));
    assert_eq!(refusal("format", "{}"), ": lacks format");
    assert_eq!(refusal("newer", r#"{"format": 2}"#), ": format is not 1");
    let case = r#"{"format": 1, "versions": {}, "logits": [{"name": "a", "file": "a.safetensors"}], "training": []}"#;
    assert_eq!(named_file("file", case), "a.safetensors");
    let case = r#"{"format": 1, "versions": {}, "logits": [{"name": 3}], "training": []}"#;
    assert_eq!(refusal("name", case), "/logits/0/name: is no string");
}

#[test]
fn spatial_sizes_get_depth_one_in_2d() {
    assert_eq!(spatial(&[2, 3, 5, 7]), [1, 5, 7]);
    assert_eq!(spatial(&[2, 3, 4, 5, 7]), [4, 5, 7]);
}
