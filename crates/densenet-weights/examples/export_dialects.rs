//! Writes the tiny networks of `tools/weights/networks.py` in every dialect and format, for `check_torch.py` to load:
//!
//! ```text
//! cargo run -p densenet-weights --example export_dialects -- FOLDER
//! python tools/weights/check_torch.py FOLDER
//! ```

use std::path::PathBuf;

use densenet_weights::export;

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(
        std::env::args()
            .nth(1)
            .ok_or("name the folder to write to")?,
    );
    std::fs::create_dir_all(&folder)?;
    for (name, config) in common::networks() {
        let model = common::model(&config);
        let dialect = name.split('+').next();
        for ending in ["pth", "safetensors"] {
            let path = folder.join(format!("{name}.{ending}"));
            let exported = export(&model, &path, dialect)?;
            println!("{} {:?}", path.display(), exported.notes);
        }
    }
    common::model(&common::small_config()).save(&folder.join("model.safetensors"))?;
    Ok(())
}
