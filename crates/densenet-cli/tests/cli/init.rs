//! `densenet init`

use crate::support::Place;

const TINY: &str = "init densenet-bc-100-12 --growth-rate 4 --block-config 2,2";

#[test]
fn a_seed_fixes_every_bit() {
    let place = Place::new();
    for (name, seed) in [("a", 1), ("b", 1), ("c", 2)] {
        let run = place.run(&format!("{TINY} --seed {seed} -o {name}.safetensors"));
        assert_eq!(run.code, 0, "{}", run.err);
        assert!(
            run.err
                .starts_with(&format!("wrote {name}.safetensors: 2-D")),
            "{}",
            run.err
        );
        assert_eq!(run.out, "");
    }
    assert!(place.read("a.safetensors") == place.read("b.safetensors"));
    assert!(place.read("a.safetensors") != place.read("c.safetensors"));
    place
        .run(&format!("{TINY} --seed 1 --init fan-out -o b.safetensors"))
        .done();
    assert!(place.read("a.safetensors") != place.read("b.safetensors"));
}

#[test]
fn what_cannot_be_done_is_explained() {
    let place = Place::new();
    place.write("file.bin", "x");
    std::fs::create_dir(place.path("folder")).unwrap();
    for (line, code, parts) in [
        (
            "init densnet121 -o x",
            2,
            &["densnet121", "did you mean densenet121?"] as &[_],
        ),
        ("init resnet50 -o x", 2, &["resnet50", "densenet161"]),
        ("init file.bin -o x", 2, &["file.bin", "preset"]),
        ("init densenet121", 2, &["--output", "init --help"]),
        (
            "init densenet121 -o absent/x.safetensors",
            5,
            &["absent/x.safetensors", "check the path"],
        ),
        (
            "init densenet121 -o folder",
            5,
            &["name a file, not a folder"],
        ),
        ("init densenet121 --seed -1 -o x", 2, &["-1", "negative"]),
        (
            "init densenet121 --growth-rate 1000000 -o x",
            2,
            &["growth_rate = 1000000", "parameters"],
        ),
        ("init densenet121 --init fan-up -o x", 2, &["--init fan-up"]),
    ] {
        place.run(line).fails(code, parts);
    }
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().collect();
    assert_eq!(left.len(), 2, "nothing half-written stays behind");
}
