//! Predictions as text, JSON and CSV.

use serde_json::{Value, json};

use super::Prediction;

/// `{predictions: [{path, top: [{class, index, probability}], error?}]}`
pub fn json(predictions: &[Prediction]) -> Value {
    let rows: Vec<Value> = predictions
        .iter()
        .map(|prediction| {
            let path = prediction.path.to_string_lossy();
            match &prediction.answer {
                Ok(top) => {
                    let top: Vec<Value> = top
                        .iter()
                        .map(|c| json!({"class": c.class, "index": c.index, "probability": c.probability}))
                        .collect();
                    json!({"path": path, "top": top})
                }
                Err(reason) => json!({"path": path, "top": [], "error": reason}),
            }
        })
        .collect();
    json!({ "predictions": rows })
}

/// One line for each image and class: `path,rank,class,index,probability,error`.
pub fn csv(predictions: &[Prediction]) -> String {
    let mut table = String::from("path,rank,class,index,probability,error\n");
    for prediction in predictions {
        let path = field(&prediction.path.to_string_lossy());
        match &prediction.answer {
            Ok(top) => {
                for (rank, c) in top.iter().enumerate() {
                    let line = format!(
                        "{path},{},{},{},{},\n",
                        rank + 1,
                        field(&c.class),
                        c.index,
                        c.probability
                    );
                    table.push_str(&line);
                }
            }
            Err(reason) => table.push_str(&format!("{path},,,,,{}\n", field(reason))),
        }
    }
    table
}

/// A field in quotes where RFC 4180 asks for them.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}

/// For each image its path and below it a line for each class, cut to `width` columns.
pub fn text(predictions: &[Prediction], width: usize) -> String {
    let mut out = String::new();
    for prediction in predictions {
        let Ok(top) = &prediction.answer else {
            continue;
        };
        out.push_str(&format!("{}\n", prediction.path.display()));
        for c in top {
            let line: String = format!("  {:6.2} %  {}", 100.0 * c.probability, c.class)
                .chars()
                .take(width)
                .collect();
            out.push_str(&line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::Candidate;
    use super::*;

    fn predictions() -> Vec<Prediction> {
        vec![
            Prediction {
                path: "a,b.png".into(),
                answer: Ok(vec![Candidate {
                    class: "tabby \"cat\"".into(),
                    index: 281,
                    probability: 0.9375,
                }]),
            },
            Prediction {
                path: "c.png".into(),
                answer: Err("c.png: empty — replace it".into()),
            },
        ]
    }

    #[test]
    fn every_form_has_every_image() {
        let document = json(&predictions());
        assert_eq!(document["predictions"][0]["top"][0]["index"], 281);
        assert_eq!(document["predictions"][0].get("error"), None);
        assert_eq!(
            document["predictions"][1]["error"],
            "c.png: empty — replace it"
        );
        assert_eq!(
            csv(&predictions()),
            "path,rank,class,index,probability,error\n\
             \"a,b.png\",1,\"tabby \"\"cat\"\"\",281,0.9375,\n\
             c.png,,,,,c.png: empty — replace it\n"
        );
        assert_eq!(text(&predictions(), 20), "a,b.png\n   93.75 %  tabby \"c\n");
    }
}
