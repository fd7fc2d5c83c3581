//! "Did you mean …?" for names of presets, layers and options.

/// The candidate closest to `name` by edit distance, if it is close enough to be a likely typing slip.
///
/// Close enough is at most a third of the longer name's letters (and at least two), ignoring case.
pub fn closest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    candidates
        .into_iter()
        .map(|c| (edit_distance(&name, &c.to_lowercase()), c))
        .filter(|(distance, c)| {
            *distance <= (name.chars().count().max(c.chars().count()) / 3).max(2)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// Levenshtein distance with one rolling row.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_refuses_strangers() {
        let names = ["densenet121", "densenet161", "densenet-bc-100-12"];
        assert_eq!(closest("DenseNet-121", names), Some("densenet121"));
        assert_eq!(closest("densnet161", names), Some("densenet161"));
        assert_eq!(closest("resnet50", names), None);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
