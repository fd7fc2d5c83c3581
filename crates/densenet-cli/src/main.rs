//! The `densenet` command.

fn main() {}
