//! Text to condition: recursive descent over winnow's tokens, one fault with its place, no backtracking.

use winnow::Parser as _;
use winnow::combinator::{opt, peek};
use winnow::error::ParserError;
use winnow::stream::{LocatingSlice, Location as _, Stateful, Stream};
use winnow::token::{any, one_of, take_while};

use super::{Attribute, Comparison, ConditionError, Expr, Fact, Literal, MAX_DEPTH, MAX_LENGTH};

/// The text, and how deep the parser stands in it.
type Text<'a> = Stateful<LocatingSlice<&'a str>, usize>;
type Parsed<T> = Result<T, Fault>;

/// The first place that does not fit, in bytes, and what would have.
#[derive(Debug)]
struct Fault {
    at: usize,
    expected: String,
}

impl ParserError<Text<'_>> for Fault {
    type Inner = Self;

    fn from_input(input: &Text<'_>) -> Self {
        Self::here(input, "something else")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

impl Fault {
    fn here(input: &Text<'_>, expected: impl Into<String>) -> Self {
        Self {
            at: input.current_token_start(),
            expected: expected.into(),
        }
    }
}

pub(super) fn condition(text: &str) -> Result<Expr, ConditionError> {
    if text.len() > MAX_LENGTH {
        return Err(ConditionError {
            position: text.char_indices().take_while(|(at, _)| *at < MAX_LENGTH).count(),
            expected: format!("the end: a condition has at most {MAX_LENGTH} bytes"),
        });
    }
    let mut input = Stateful {
        input: LocatingSlice::new(text),
        state: 0,
    };
    whole(&mut input).map_err(|fault| ConditionError {
        position: text.char_indices().take_while(|(at, _)| *at < fault.at).count() + 1,
        expected: fault.expected,
    })
}

/// Whether a tag's key may stand after `tags.` without quotes.
pub(super) fn is_plain_key(key: &str) -> bool {
    key.starts_with(is_word_start) && key.chars().all(is_key_part)
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_key_part(c: char) -> bool {
    is_word_start(c) || matches!(c, '-' | '.' | '/')
}

fn whole(input: &mut Text<'_>) -> Parsed<Expr> {
    let expr = disjunction(input)?;
    spaces(input)?;
    if input.input.is_empty() {
        Ok(expr)
    } else {
        Err(Fault::here(input, "AND, OR or the end"))
    }
}

fn disjunction(input: &mut Text<'_>) -> Parsed<Expr> {
    let mut parts = vec![conjunction(input)?];
    while keyword(input, "or")? {
        parts.push(conjunction(input)?);
    }
    Ok(one_or(parts, Expr::Or))
}

fn conjunction(input: &mut Text<'_>) -> Parsed<Expr> {
    let mut parts = vec![negation(input)?];
    while keyword(input, "and")? {
        parts.push(negation(input)?);
    }
    Ok(one_or(parts, Expr::And))
}

fn one_or(mut parts: Vec<Expr>, many: fn(Vec<Expr>) -> Expr) -> Expr {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => many(parts),
    }
}

fn negation(input: &mut Text<'_>) -> Parsed<Expr> {
    if keyword(input, "not")? {
        nested(input, negation).map(|inner| Expr::Not(Box::new(inner)))
    } else {
        primary(input)
    }
}

/// Runs a parser one level deeper; the depth is bounded because the parser's own stack is.
fn nested(input: &mut Text<'_>, parser: fn(&mut Text<'_>) -> Parsed<Expr>) -> Parsed<Expr> {
    if input.state == MAX_DEPTH {
        return Err(Fault::here(
            input,
            format!("less nesting than {} levels", MAX_DEPTH + 1),
        ));
    }
    input.state += 1;
    let inner = parser(input)?;
    input.state -= 1;
    Ok(inner)
}

fn primary(input: &mut Text<'_>) -> Parsed<Expr> {
    if symbol(input, '(')? {
        let inner = nested(input, disjunction)?;
        expect(input, ')', "AND, OR or ')'")?;
        return Ok(inner);
    }
    if symbol(input, '*')? {
        return Ok(Expr::Any);
    }
    spaces(input)?;
    let start = input.checkpoint();
    match word(input)?.to_ascii_lowercase().as_str() {
        "is_defined" => {
            expect(input, '(', "'('")?;
            let attribute = attribute(input)?;
            expect(input, ')', "')'")?;
            Ok(Expr::IsDefined(attribute))
        }
        "startswith" => {
            expect(input, '(', "'('")?;
            let attribute = attribute(input)?;
            expect(input, ',', "','")?;
            let prefix = quoted(input)?;
            expect(input, ')', "')'")?;
            Ok(Expr::StartsWith(attribute, prefix))
        }
        _ => {
            input.reset(&start);
            comparison(input)
        }
    }
}

fn comparison(input: &mut Text<'_>) -> Parsed<Expr> {
    let attribute = attribute(input)?;
    if keyword(input, "in")? {
        return list(input).map(|list| Expr::In(attribute, list));
    }
    if keyword(input, "not")? {
        if !keyword(input, "in")? {
            return Err(Fault::here(input, "IN"));
        }
        return list(input).map(|list| Expr::NotIn(attribute, list));
    }
    let comparison = operator(input)?;
    let literal = match comparison {
        Comparison::Eq | Comparison::Ne => literal(input)?,
        _ => Literal::Number(number(input)?),
    };
    Ok(Expr::Compare(attribute, comparison, literal))
}

const ATTRIBUTE: &str =
    "'*', '(', NOT, deviceId, group, tags.<key>, facts.<name>, is_defined(..) or STARTSWITH(..)";

fn attribute(input: &mut Text<'_>) -> Parsed<Attribute> {
    spaces(input)?;
    let start = Fault::here(input, ATTRIBUTE);
    match word(input)?.to_ascii_lowercase().as_str() {
        "deviceid" => Ok(Attribute::DeviceId),
        "group" => Ok(Attribute::Group),
        "tags" => tag(input).map(Attribute::Tag),
        "facts" => fact(input).map(Attribute::Fact),
        _ => Err(start),
    }
}

fn tag(input: &mut Text<'_>) -> Parsed<String> {
    if opt('.').parse_next(input)?.is_some() {
        let key: &str = take_while(0.., is_key_part).parse_next(input)?;
        return if key.is_empty() {
            Err(Fault::here(input, "a tag's key"))
        } else if is_plain_key(key) {
            Ok(key.to_owned())
        } else {
            Err(Fault::here(
                input,
                "a tag's key that begins with a letter, digit or '_'",
            ))
        };
    }
    expect(input, '[', "'.' or '['")?;
    let key = quoted(input)?;
    expect(input, ']', "']'")?;
    Ok(key)
}

fn fact(input: &mut Text<'_>) -> Parsed<Fact> {
    expect(input, '.', "'.'")?;
    let unknown = Fault::here(input, {
        let names: Vec<_> = Fact::ALL.iter().map(|fact| fact.name()).collect();
        format!("one of {}", names.join(", "))
    });
    let name = word(input)?;
    let known = Fact::ALL.iter().find(|fact| fact.name() == name);
    known.copied().ok_or(unknown)
}

fn operator(input: &mut Text<'_>) -> Parsed<Comparison> {
    spaces(input)?;
    let start = Fault::here(input, "=, !=, <>, <, >, <=, >=, IN or NOT IN");
    let text: &str = take_while(0..=2, ['=', '!', '<', '>']).parse_next(input)?;
    match text {
        "=" => Ok(Comparison::Eq),
        "!=" | "<>" => Ok(Comparison::Ne),
        "<" => Ok(Comparison::Lt),
        ">" => Ok(Comparison::Gt),
        "<=" => Ok(Comparison::Le),
        ">=" => Ok(Comparison::Ge),
        _ => Err(start),
    }
}

fn list(input: &mut Text<'_>) -> Parsed<Vec<Literal>> {
    expect(input, '[', "'['")?;
    let mut list = vec![literal(input)?];
    while symbol(input, ',')? {
        list.push(literal(input)?);
    }
    expect(input, ']', "',' or ']'")?;
    Ok(list)
}

fn literal(input: &mut Text<'_>) -> Parsed<Literal> {
    spaces(input)?;
    match opt(peek(any)).parse_next(input)? {
        Some('\'') => quoted(input).map(Literal::Text),
        Some(c) if c.is_ascii_digit() || c == '-' => number(input).map(Literal::Number),
        _ => Err(Fault::here(input, "a text in single quotes or a number")),
    }
}

fn number(input: &mut Text<'_>) -> Parsed<f64> {
    spaces(input)?;
    let start = Fault::here(input, "a number");
    let text: &str =
        take_while(0.., |c: char| c.is_ascii_digit() || matches!(c, '.' | '-')).parse_next(input)?;
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(start),
    }
}

fn quoted(input: &mut Text<'_>) -> Parsed<String> {
    expect(input, '\'', "a text in single quotes")?;
    let mut text = String::new();
    loop {
        let run: &str = take_while(0.., |c| c != '\'').parse_next(input)?;
        text.push_str(run);
        if opt('\'').parse_next(input)?.is_none() {
            return Err(Fault::here(input, "the closing quote"));
        }
        if opt('\'').parse_next(input)?.is_none() {
            return Ok(text);
        }
        text.push('\'');
    }
}

/// Takes the keyword if it comes next as a whole word.
fn keyword(input: &mut Text<'_>, expected: &str) -> Parsed<bool> {
    spaces(input)?;
    let start = input.checkpoint();
    if word(input)?.eq_ignore_ascii_case(expected) {
        return Ok(true);
    }
    input.reset(&start);
    Ok(false)
}

fn word<'a>(input: &mut Text<'a>) -> Parsed<&'a str> {
    take_while(0.., is_word_start).parse_next(input)
}

fn symbol(input: &mut Text<'_>, symbol: char) -> Parsed<bool> {
    spaces(input)?;
    Ok(opt(one_of(symbol)).parse_next(input)?.is_some())
}

fn expect(input: &mut Text<'_>, wanted: char, expected: &str) -> Parsed<()> {
    if symbol(input, wanted)? {
        Ok(())
    } else {
        Err(Fault::here(input, expected))
    }
}

fn spaces(input: &mut Text<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}
