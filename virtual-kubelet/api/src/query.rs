//! The query of a request.

/// Names and values in their order, decoded. A name may come several times.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn read(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(at, _)| at == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|(at, value)| (at == name).then_some(value.as_str()))
    }

    /// As `Convert_Slice_string_To_bool` of apimachinery: absent, `0` and `false` are off, all else is on.
    pub fn switch(&self, name: &str) -> bool {
        self.first(name)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }
}
