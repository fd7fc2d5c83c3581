//! PyTorch's order of elements and the CPU engine's.

/// `[n, c, (d,) h, w]` to `[n, (d,) h, w, c]`.
///
/// # Panics
/// `data` is not as long as `shape` says, or `shape` has fewer than two axes.
pub fn channels_last<T: Copy>(data: &[T], shape: &[usize]) -> Vec<T> {
    let (batch, channels, pixels) = split(data, shape);
    let index = |n, p, c| (n * channels + c) * pixels + p;
    let order = (0..batch).flat_map(|n| (0..pixels).map(move |p| (n, p)));
    order
        .flat_map(|(n, p)| (0..channels).map(move |c| data[index(n, p, c)]))
        .collect()
}

/// `[n, (d,) h, w, c]` to `[n, c, (d,) h, w]`, where `shape` is the result's, PyTorch's.
///
/// # Panics
/// As [`channels_last`].
pub fn channels_first<T: Copy>(data: &[T], shape: &[usize]) -> Vec<T> {
    let (batch, channels, pixels) = split(data, shape);
    let index = |n, p, c| (n * pixels + p) * channels + c;
    let order = (0..batch).flat_map(|n| (0..channels).map(move |c| (n, c)));
    order
        .flat_map(|(n, c)| (0..pixels).map(move |p| data[index(n, p, c)]))
        .collect()
}

fn split<T>(data: &[T], shape: &[usize]) -> (usize, usize, usize) {
    assert!(shape.len() >= 2, "{shape:?} has no channel axis");
    assert_eq!(
        data.len(),
        shape.iter().product::<usize>(),
        "elements of a {shape:?}"
    );
    (shape[0], shape[1], shape[2..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let shape = [2, 3, 2, 2];
        let first: Vec<u32> = (0..24).collect();
        let last = channels_last(&first, &shape);
        assert_eq!(last[..6], [0, 4, 8, 1, 5, 9]);
        assert_eq!(channels_first(&last, &shape), first);
    }
}
