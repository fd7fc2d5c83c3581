//! A layered layout: every edge leads downwards, and what belongs together stands close.
//!
//! A node's layer is the longest path that leads to it; what depends on no input, such as a constant, stands just above its
//! first reader. Within a layer nodes stand in the order of the mean place of what
//! they read, and then as close to it as the neighbours allow. Linear in nodes and edges, up to sorting.

use super::NodeFacts;

/// Sweeps down and up; more change little.
const SWEEPS: usize = 4;
/// From middle to middle, in units of a node's width.
const SPACING: f64 = 1.2;

/// Sets every node's layer and place. Edges lead from lower to higher indices.
pub(super) fn place(nodes: &mut [NodeFacts], edges: &[[usize; 3]]) {
    let (mut before, mut after) = (vec![Vec::new(); nodes.len()], vec![Vec::new(); nodes.len()]);
    for &[from, to, _] in edges {
        before[to].push(from);
        after[from].push(to);
    }
    let mut fed: Vec<bool> = nodes.iter().map(|node| node.role == "input").collect();
    for index in 0..nodes.len() {
        let above = before[index].iter().map(|&b| nodes[b].layer + 1).max();
        nodes[index].layer = above.unwrap_or(0);
        fed[index] |= before[index].iter().any(|&b| fed[b]);
    }
    for index in (0..nodes.len()).rev().filter(|&index| !fed[index]) {
        let below = after[index].iter().map(|&a| nodes[a].layer).min();
        nodes[index].layer = below.map_or(nodes[index].layer, |below| below.saturating_sub(1));
    }
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let layer = node.layer;
        layers.resize_with(layers.len().max(layer + 1), Vec::new);
        layers[layer].push(index);
    }
    let mut x = vec![0.0f64; nodes.len()];
    for layer in &layers {
        spread(layer, &mut x);
    }
    for sweep in 0..SWEEPS {
        let down = sweep % 2 == 0;
        let neighbours = if down { &before } else { &after };
        let mut order: Vec<usize> = (0..layers.len()).collect();
        if !down {
            order.reverse();
        }
        for layer in order {
            for &node in &layers[layer] {
                let near = &neighbours[node];
                if !near.is_empty() {
                    let sum: f64 = near.iter().map(|&n| x[n]).sum();
                    x[node] = sum / near.len() as f64;
                }
            }
            layers[layer].sort_by(|&a, &b| x[a].total_cmp(&x[b]));
            spread(&layers[layer], &mut x);
        }
    }
    for (node, x) in nodes.iter_mut().zip(x) {
        node.x = (x * 1000.0).round() / 1000.0;
    }
}

/// Pushes the nodes of a layer apart, from left to right, and moves them all so that they stay where they were on
/// average.
fn spread(layer: &[usize], x: &mut [f64]) {
    let mean = |x: &[f64]| layer.iter().map(|&n| x[n]).sum::<f64>() / layer.len().max(1) as f64;
    let wanted = mean(x);
    for pair in layer.windows(2) {
        x[pair[1]] = x[pair[1]].max(x[pair[0]] + SPACING);
    }
    let shift = wanted - mean(x);
    layer.iter().for_each(|&node| x[node] += shift);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<NodeFacts> {
        let node = NodeFacts {
            name: String::new(),
            op: String::new(),
            role: "node",
            inputs: Vec::new(),
            outputs: Vec::new(),
            attributes: Vec::new(),
            x: 0.0,
            layer: 0,
        };
        vec![node; count]
    }

    #[test]
    fn branches_stand_side_by_side_and_do_not_cross() {
        // 0 → 1, 2; 1 → 3; 2 → 4; 3, 4 → 5, with the second pair named crosswise.
        let edges = [
            [0, 1, 0],
            [0, 2, 0],
            [2, 3, 0],
            [1, 4, 0],
            [3, 5, 0],
            [4, 5, 0],
        ];
        let mut nodes = nodes(6);
        nodes[0].role = "input";
        place(&mut nodes, &edges);
        let layers: Vec<_> = nodes.iter().map(|n| n.layer).collect();
        assert_eq!(layers, [0, 1, 1, 2, 2, 3]);
        assert!((nodes[1].x < nodes[2].x) == (nodes[4].x < nodes[3].x));
        assert!((nodes[1].x - nodes[2].x).abs() >= SPACING - 1e-3);
        assert!(nodes[5].x.abs() < 1e-6);
    }

    #[test]
    fn constants_stand_above_their_readers() {
        // 0 → 1 → 2 → 5, a constant 3 → 4 → 5, and 6, which nobody reads.
        let edges = [[0, 1, 0], [1, 2, 0], [3, 4, 0], [2, 5, 0], [4, 5, 0]];
        let mut nodes = nodes(7);
        nodes[0].role = "input";
        place(&mut nodes, &edges);
        let layers: Vec<_> = nodes.iter().map(|n| n.layer).collect();
        assert_eq!(layers, [0, 1, 2, 1, 2, 3, 0]);
    }

    #[test]
    fn a_long_chain_is_straight() {
        let edges: Vec<_> = (1..2000).map(|i| [i - 1, i, 0]).collect();
        let mut nodes = nodes(2000);
        place(&mut nodes, &edges);
        assert!(nodes.iter().all(|n| n.x == 0.0));
        assert_eq!(nodes[1999].layer, 1999);
    }
}
