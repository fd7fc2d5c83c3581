//! Predictions as text, JSON and CSV.

use serde_json::{Value, json};

use super::{Candidate, Prediction};

/// `{predictions: [{path, top: [{class, index, probability}], error?}]}`; where several answers were averaged, `std`, `min`
/// and `max` of each class, `votes` and `disagreement`; `explanations` where they were asked for.
pub fn json(predictions: &[Prediction]) -> Value {
    let rows: Vec<Value> = predictions
        .iter()
        .map(|prediction| {
            let path = prediction.path.to_string_lossy();
            match &prediction.answer {
                Ok(answer) => {
                    let top: Vec<Value> = answer.top.iter().map(candidate).collect();
                    let mut row = json!({"path": path, "top": top});
                    if let Some((votes, disagreement)) = answer.votes {
                        row["votes"] = votes.into();
                        row["disagreement"] = disagreement.into();
                    }
                    if !answer.explained.is_empty() {
                        row["explanations"] = answer.explained.iter().map(|e| e.json()).collect();
                    }
                    row
                }
                Err(reason) => json!({"path": path, "top": [], "error": reason}),
            }
        })
        .collect();
    json!({ "predictions": rows })
}

fn candidate(c: &Candidate) -> Value {
    let mut row = json!({"class": c.class, "index": c.index, "probability": c.probability});
    if let Some(spread) = c.spread {
        row["std"] = spread.std.into();
        row["min"] = spread.min.into();
        row["max"] = spread.max.into();
    }
    row
}

/// One line for each image and class: `path,rank,class,index,probability,error`, and `,std,min,max,disagreement` where
/// several answers (`votes`) were averaged.
pub fn csv(predictions: &[Prediction], votes: usize) -> String {
    let mut table = String::from("path,rank,class,index,probability,error");
    table.push_str(match votes {
        1 => "\n",
        _ => ",std,min,max,disagreement\n",
    });
    for prediction in predictions {
        let path = field(&prediction.path.to_string_lossy());
        match &prediction.answer {
            Ok(answer) => {
                for (rank, c) in answer.top.iter().enumerate() {
                    table.push_str(&format!(
                        "{path},{},{},{},{},",
                        rank + 1,
                        field(&c.class),
                        c.index,
                        c.probability
                    ));
                    if let (Some(s), Some((_, disagreement))) = (c.spread, answer.votes) {
                        table.push_str(&format!(",{},{},{},{disagreement}", s.std, s.min, s.max));
                    }
                    table.push('\n');
                }
            }
            Err(reason) => {
                let rest = if votes == 1 { "" } else { ",,,," };
                table.push_str(&format!("{path},,,,,{}{rest}\n", field(reason)));
            }
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
        let Ok(answer) = &prediction.answer else {
            continue;
        };
        out.push_str(&prediction.path.display().to_string());
        if let Some((votes, disagreement)) = answer.votes {
            let others = (disagreement * votes as f64).round();
            out.push_str(&match others {
                0.0 => format!("  ({votes} answers agree)"),
                _ => format!("  ({others} of {votes} answers disagree)"),
            });
        }
        out.push('\n');
        for c in &answer.top {
            let percent = 100.0 * c.probability;
            let spread = c.spread.map_or(String::new(), |s| {
                let [std, min, max] = [s.std, s.min, s.max].map(|v| 100.0 * v);
                format!("  ± {std:5.2}  ({min:.1} to {max:.1})")
            });
            let line: String = format!("  {percent:6.2} %{spread}  {}", c.class)
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
    use super::super::{Answer, Candidate, Spread};
    use super::*;

    fn predictions(votes: usize) -> Vec<Prediction> {
        let several = votes > 1;
        let spread = Spread {
            std: 0.125,
            min: 0.5,
            max: 1.0,
        };
        let cat = Candidate {
            class: "tabby \"cat\"".into(),
            index: 281,
            probability: 0.9375,
            spread: several.then_some(spread),
        };
        vec![
            Prediction {
                path: "a,b.png".into(),
                answer: Ok(Answer {
                    top: vec![cat],
                    votes: several.then_some((votes, 0.25)),
                    explained: Vec::new(),
                }),
            },
            Prediction {
                path: "c.png".into(),
                answer: Err("c.png: empty — replace it".into()),
            },
        ]
    }

    #[test]
    fn every_form_has_every_image() {
        let document = json(&predictions(1));
        assert_eq!(document["predictions"][0]["top"][0]["index"], 281);
        assert_eq!(document["predictions"][0].get("error"), None);
        assert_eq!(document["predictions"][0].get("votes"), None);
        assert_eq!(
            document["predictions"][1]["error"],
            "c.png: empty — replace it"
        );
        assert_eq!(
            csv(&predictions(1), 1),
            "path,rank,class,index,probability,error\n\
             \"a,b.png\",1,\"tabby \"\"cat\"\"\",281,0.9375,\n\
             c.png,,,,,c.png: empty — replace it\n"
        );
        assert_eq!(
            text(&predictions(1), 20),
            "a,b.png\n   93.75 %  tabby \"c\n"
        );
    }

    #[test]
    fn several_answers_show_their_spread() {
        let document = json(&predictions(4));
        let first = &document["predictions"][0];
        assert_eq!(
            (&first["votes"], &first["disagreement"]),
            (&4.into(), &0.25.into())
        );
        assert_eq!(first["top"][0]["std"], 0.125);
        assert_eq!(
            csv(&predictions(4), 4),
            "path,rank,class,index,probability,error,std,min,max,disagreement\n\
             \"a,b.png\",1,\"tabby \"\"cat\"\"\",281,0.9375,,0.125,0.5,1,0.25\n\
             c.png,,,,,c.png: empty — replace it,,,,\n"
        );
        assert_eq!(
            text(&predictions(4), 60),
            "a,b.png  (1 of 4 answers disagree)\n   93.75 %  ± 12.50  (50.0 to 100.0)  tabby \"cat\"\n"
        );
    }
}
