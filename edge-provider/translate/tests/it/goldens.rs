//! Pod → manifest pairs, byte by byte.

use edge_provider_translate::Note;

use crate::pods;

#[test]
fn each_pod_gives_exactly_its_document() {
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let mut names: Vec<_> = std::fs::read_dir(pods::directory())
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_suffix(".pod.json")
                .map(str::to_owned)
        })
        .collect();
    names.sort();
    assert_eq!(names, ["deployment", "everything", "guaranteed", "job"]);
    for name in names {
        let document = format!("{}\n", pods::document(&pods::read(&name)));
        let path = pods::directory().join(format!("{name}.manifest.json"));
        if update {
            std::fs::write(&path, &document).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), document, "{name}");
    }
}

#[test]
fn the_withheld_token_is_said_only_where_one_was_mounted() {
    assert_eq!(
        pods::translate(&pods::read("deployment")).unwrap().notes,
        [Note::TokenWithheld]
    );
    assert_eq!(pods::translate(&pods::read("guaranteed")).unwrap().notes, []);
}
