//! Proves that a query writes nothing, token by token.
//!
//! This is no parser: a text that the server refuses may be called a read.
//! What must be seen in every text that the server accepts (`SelectStmt` of
//! gram.y) is each function, operator, type and relation, and each clause that
//! writes or locks. Where a word could be one thing or another, it is looked
//! up as the one that could write.

use super::catalog::{Catalog, Object, Standing};
use super::name::{Path, same};
use super::verdict::{Fault, Kind, Reason, Verdict};
use super::word::Keyword;
use crate::sql::lexer::TokenKind;
use crate::sql::tokens::{Token, Tokens};

/// Nested parentheses and brackets that are followed.
const DEPTH: usize = 32;
/// Names of WITH queries that are known at a time.
const NAMES: usize = 16;

/// The text is no read, or not known to be one.
pub(super) type Proof<'a, T = ()> = Result<T, Verdict<'a>>;

/// Reads the query that begins at the next token: up to the end of the
/// statement, or to a closing parenthesis that it did not open.
pub(super) fn prove<'a>(tokens: &mut Tokens<'a>, catalog: &Catalog) -> Proof<'a> {
    if catalog.implicit {
        return unknown(Reason::Implicit);
    }
    let mut query = Query {
        tokens,
        catalog,
        levels: [Level::default(); DEPTH],
        depth: 0,
        names: [b""; NAMES],
        known: 0,
    };
    query.run()
}

/// Takes the name that comes next.
pub(super) fn path_of_name<'a>(tokens: &mut Tokens<'a>) -> Proof<'a, Path<'a>> {
    let first = tokens.advance();
    match first {
        Some(name) if name.is_name() => Ok(path(tokens, name, |_| {})),
        _ => unexpected(first),
    }
}

/// Proves that the relation may be read.
pub(super) fn prove_relation<'a>(catalog: &Catalog, path: &Path<'a>) -> Proof<'a> {
    let reason = |fault| Reason::Relation(path.name, fault);
    judge(catalog, Object::Relation, path, reason).map(|_| ())
}

/// What is open: the statement itself, a parenthesis or a bracket.
#[derive(Clone, Copy, Default)]
struct Level<'a> {
    state: State,
    /// `AS` is followed by a type, not by a name.
    cast: bool,
    /// The WITH query whose parenthesis comes or is open, and `RECURSIVE`.
    with: &'a [u8],
    recursive: bool,
    /// Names of WITH queries that were known when it opened.
    known: u8,
}

/// Where on a level we are.
#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    /// Nothing has been seen: a query may begin here.
    #[default]
    Start,
    /// The same where only a query may: the statement, the body of a WITH.
    QueryStart,
    /// The same in the place of a relation.
    FromStart,
    /// No query: arguments, an expression in parentheses.
    Expression,
    /// In a query, and not in its FROM clause.
    Query,
    /// In FROM, where a relation or function must come.
    Relation,
    /// Behind it, where its alias may come.
    Alias,
    /// Behind the alias, where names of columns may come.
    Columns,
    /// In the rest of FROM: another JOIN, a condition, a comma.
    Joined,
    /// In the names, and types, of columns: nothing runs here.
    Names,
    /// Behind WITH or the comma in it: a name comes.
    With,
    /// Behind that name: its columns, AS, the query.
    WithName,
    /// Behind its AS.
    WithAs,
    /// Behind its query.
    WithDone,
}

impl State {
    fn in_from(self) -> bool {
        matches!(
            self,
            State::Relation | State::Alias | State::Columns | State::Joined
        )
    }
}

struct Query<'a, 'q> {
    tokens: &'q mut Tokens<'a>,
    catalog: &'q Catalog,
    levels: [Level<'a>; DEPTH],
    depth: usize,
    names: [&'a [u8]; NAMES],
    known: u8,
}

impl<'a> Query<'a, '_> {
    fn run(&mut self) -> Proof<'a> {
        self.level().state = State::QueryStart;
        while let Some(token) = self.tokens.peek() {
            if self.depth == 0 && matches!(token.kind, TokenKind::Symbol(b')' | b';')) {
                break;
            }
            self.tokens.skip();
            self.step(token)?;
        }
        let complete = matches!(
            self.level().state,
            State::Query | State::Alias | State::Columns | State::Joined
        );
        if self.depth == 0 && complete {
            Ok(())
        } else {
            unknown(Reason::Unreadable)
        }
    }

    fn step(&mut self, token: Token<'a>) -> Proof<'a> {
        match token.kind {
            TokenKind::Word | TokenKind::QuotedIdent => self.name(token),
            TokenKind::UnicodeIdent => unknown(Reason::Name(token.text)),
            TokenKind::Symbol(b'(') => self.open(token),
            TokenKind::Symbol(b'[') => {
                self.begin_expression(token)?;
                self.push(State::Expression)
            }
            TokenKind::Symbol(b')' | b']') => self.close(token),
            TokenKind::Symbol(b',') => self.comma(token),
            TokenKind::Symbol(b';') => unexpected(Some(token)),
            TokenKind::Symbol(b'.') => self.attribute(),
            // Of a slice, or of a key and its value.
            TokenKind::Symbol(b':') => Ok(()),
            TokenKind::Cast => self.type_name(),
            TokenKind::Symbol(_)
            | TokenKind::LessEquals
            | TokenKind::GreaterEquals
            | TokenKind::NotEquals
            | TokenKind::Operator => {
                self.begin_expression(token)?;
                self.operator(token)
            }
            kind if kind.is_constant() => self.begin_expression(token),
            TokenKind::ColonEquals | TokenKind::Arrow => Ok(()),
            TokenKind::Unterminated | TokenKind::Invalid | TokenKind::Unknown => {
                unknown(Reason::Unreadable)
            }
            _ => unexpected(Some(token)),
        }
    }

    fn level(&mut self) -> &mut Level<'a> {
        // The depth is below DEPTH: push sees to that.
        &mut self.levels[self.depth]
    }

    fn push(&mut self, state: State) -> Proof<'a> {
        if self.depth + 1 == DEPTH {
            return unknown(Reason::TooComplex);
        }
        self.depth += 1;
        *self.level() = Level {
            state,
            known: self.known,
            ..Level::default()
        };
        Ok(())
    }

    fn open(&mut self, token: Token<'a>) -> Proof<'a> {
        let (here, inside) = match self.level().state {
            State::Start => (State::Expression, State::Start),
            State::QueryStart => (State::Query, State::QueryStart),
            State::FromStart | State::Relation => (State::Alias, State::FromStart),
            State::Columns => (State::Joined, State::Names),
            State::WithName => (State::WithName, State::Names),
            State::WithAs => (State::WithDone, State::QueryStart),
            State::WithDone => (State::Query, State::QueryStart),
            State::Names => (State::Names, State::Expression),
            State::With => return unexpected(Some(token)),
            state => (state, State::Start),
        };
        self.level().state = here;
        self.push(inside)
    }

    fn close(&mut self, token: Token<'a>) -> Proof<'a> {
        let state = self.level().state;
        let incomplete = matches!(
            state,
            State::QueryStart
                | State::FromStart
                | State::Relation
                | State::With
                | State::WithName
                | State::WithAs
                | State::WithDone
        );
        // `f(x) 'y'` is a literal of the type `f`, whatever the function `f` is.
        let literal = self.tokens.peek().filter(Token::is_string);
        if self.depth == 0 || incomplete || literal.is_some() {
            return unexpected(literal.or(Some(token)));
        }
        self.known = self.level().known;
        self.depth -= 1;
        let level = *self.level();
        // The parenthesis of a WITH query, not that of its columns.
        if level.state == State::WithDone && !level.recursive {
            self.know(level.with)?;
        }
        Ok(())
    }

    fn comma(&mut self, token: Token<'a>) -> Proof<'a> {
        let state = match self.level().state {
            State::Alias | State::Columns | State::Joined => State::Relation,
            State::WithDone => State::With,
            state @ (State::Expression | State::Query | State::Names) => state,
            _ => return unexpected(Some(token)),
        };
        self.level().state = state;
        Ok(())
    }

    /// A token that belongs to an expression: allowed here?
    fn begin_expression(&mut self, token: Token<'a>) -> Proof<'a> {
        match self.level().state {
            State::Start => self.level().state = State::Expression,
            State::Expression | State::Query | State::Joined | State::Names => {}
            // `FROM t * `, and what follows a table function.
            State::Alias | State::Columns => {}
            _ => return unexpected(Some(token)),
        }
        Ok(())
    }

    /// A word or quoted identifier.
    fn name(&mut self, token: Token<'a>) -> Proof<'a> {
        let keyword = match token.kind {
            TokenKind::Word => Keyword::of(token.text),
            _ => None,
        };
        match self.level().state {
            State::Start | State::QueryStart | State::FromStart => self.first(token, keyword),
            State::Relation => self.in_relation(token, keyword),
            State::Alias => self.alias(token, keyword),
            State::Names => self.column(),
            State::With => self.with_name(token),
            State::WithName => {
                self.level().state = State::WithAs;
                expect(token, keyword == Some(Keyword::As))
            }
            State::WithAs => expect(token, token.is_word("not") || token.is_word("materialized")),
            State::WithDone => self.first(token, keyword),
            _ => self.word(token, keyword),
        }
    }

    /// The first word of a level, or of the query behind WITH.
    fn first(&mut self, token: Token<'a>, keyword: Option<Keyword>) -> Proof<'a> {
        let state = self.level().state;
        match keyword {
            Some(Keyword::Select | Keyword::Values) => {
                self.level().state = State::Query;
                return Ok(());
            }
            Some(Keyword::Table) => {
                self.level().state = State::Relation;
                return Ok(());
            }
            Some(Keyword::With) if state != State::WithDone => {
                self.level().recursive = self.tokens.accept("recursive");
                self.level().state = State::With;
                return Ok(());
            }
            Some(Keyword::Dml) => {
                return Err(Verdict {
                    kind: Kind::Write,
                    reason: Reason::DataChanging(token.text),
                });
            }
            _ => {}
        }
        match state {
            State::Start => self.level().state = State::Expression,
            State::FromStart => self.level().state = State::Relation,
            _ => return unexpected(Some(token)),
        }
        self.name(token)
    }

    fn with_name(&mut self, token: Token<'a>) -> Proof<'a> {
        self.level().with = token.text;
        self.level().state = State::WithName;
        if self.level().recursive {
            self.know(token.text)?;
        }
        Ok(())
    }

    fn know(&mut self, name: &'a [u8]) -> Proof<'a> {
        let Some(place) = self.names.get_mut(usize::from(self.known)) else {
            return unknown(Reason::TooComplex);
        };
        *place = name;
        self.known += 1;
        Ok(())
    }

    fn is_with_query(&self, path: &Path<'a>) -> bool {
        let mut known = self.names.iter().take(usize::from(self.known));
        path.schema.is_none() && known.any(|name| same(name, path.name))
    }

    /// Where a relation or function must come.
    fn in_relation(&mut self, token: Token<'a>, keyword: Option<Keyword>) -> Proof<'a> {
        match keyword {
            Some(Keyword::Only | Keyword::From) => return Ok(()),
            // They are names of functions, too.
            Some(Keyword::Joining) | None => {}
            Some(_) => return unexpected(Some(token)),
        }
        let path = path(self.tokens, token, |_| {});
        self.level().state = State::Alias;
        if self.tokens.next_is(b'(') {
            return self.function(&path);
        }
        if self.is_with_query(&path) {
            return Ok(());
        }
        prove_relation(self.catalog, &path)
    }

    fn alias(&mut self, token: Token<'a>, keyword: Option<Keyword>) -> Proof<'a> {
        match keyword {
            Some(Keyword::As) => {
                if self.tokens.next_is(b'(') {
                    self.level().state = State::Columns;
                    return Ok(());
                }
                let alias = self.tokens.advance();
                self.level().state = State::Columns;
                match alias {
                    Some(token) => expect(token, token.is_name()),
                    None => unexpected(None),
                }
            }
            Some(Keyword::With) => expect(token, self.tokens.accept("ordinality")),
            Some(_) => self.word(token, keyword),
            None => {
                self.level().state = State::Columns;
                Ok(())
            }
        }
    }

    /// The name of a column in a list of them, and its type if it has one.
    fn column(&mut self) -> Proof<'a> {
        if self.tokens.next_is(b',') || self.tokens.next_is(b')') {
            return Ok(());
        }
        self.type_name()
    }

    /// A word anywhere else.
    fn word(&mut self, token: Token<'a>, keyword: Option<Keyword>) -> Proof<'a> {
        let state = self.level().state;
        let Some(keyword) = keyword else {
            if state == State::Columns {
                self.level().state = State::Joined;
            }
            return self.column_or_call(token);
        };
        match keyword {
            Keyword::Select => self.level().state = State::Query,
            Keyword::From if state == State::Expression => {}
            Keyword::From | Keyword::Table => self.level().state = State::Relation,
            Keyword::Join => {
                expect(token, state.in_from())?;
                self.level().state = State::Relation;
                // As good as `join(x)` in a condition.
                return self.column_or_call(token);
            }
            Keyword::Is => {
                self.column_or_call(token)?;
                // The FROM of IS DISTINCT FROM is no clause.
                self.tokens.accept("not");
                if self.tokens.accept("distinct") {
                    self.tokens.accept("from");
                }
            }
            Keyword::As => self.label()?,
            Keyword::Into => {
                return Err(Verdict {
                    kind: Kind::Write,
                    reason: Reason::Into,
                });
            }
            // Of a JSON function: what changes data has been refused.
            Keyword::Returning => return self.type_name(),
            Keyword::For => {
                let locks = |word| self.tokens.peek().is_some_and(|t| t.is_word(word));
                if ["update", "no", "share", "key"].into_iter().any(locks) {
                    return Err(Verdict {
                        kind: Kind::Write,
                        reason: Reason::Locking,
                    });
                }
                self.end_from_unless_called();
            }
            Keyword::Clause => self.end_from(),
            Keyword::Group => self.end_from_unless_called(),
            Keyword::On | Keyword::Joining => {
                if state.in_from() {
                    self.level().state = State::Joined;
                }
                return self.column_or_call(token);
            }
            Keyword::Cast if self.tokens.next_is(b'(') => {
                self.tokens.advance();
                self.push(State::Start)?;
                self.level().cast = true;
            }
            Keyword::Cast | Keyword::Dml | Keyword::Only | Keyword::Values | Keyword::With => {
                return self.column_or_call(token);
            }
        }
        Ok(())
    }

    fn end_from(&mut self) {
        if self.level().state.in_from() {
            self.level().state = State::Query;
        }
    }

    /// WITHIN GROUP (...) and COLLATION FOR (...) may stand in a condition of a
    /// JOIN.
    fn end_from_unless_called(&mut self) {
        if !self.tokens.next_is(b'(') {
            self.end_from();
        }
    }

    /// Behind AS outside of FROM: a type, or a name that may be any keyword.
    fn label(&mut self) -> Proof<'a> {
        if self.level().cast {
            return self.type_name();
        }
        let mut behind = self.tokens.clone();
        let label = behind.advance().is_some_and(|token| token.is_name());
        let stands_alone = behind.peek().is_none_or(|token| {
            !matches!(token.kind, TokenKind::Symbol(b'(' | b'.')) && !token.is_string()
        });
        if label && stands_alone {
            *self.tokens = behind;
        }
        Ok(())
    }

    /// A column, a function that is called, or the type of a literal.
    #[inline]
    fn column_or_call(&mut self, token: Token<'a>) -> Proof<'a> {
        match self.tokens.peek() {
            Some(next) if next.is_symbol(b'(') => self.function(&Path::of(token.text)),
            Some(next) if next.is_symbol(b'.') => self.dotted(token),
            Some(next) if next.is_string() => self.type_of(&Path::of(token.text)),
            _ => Ok(()),
        }
    }

    fn dotted(&mut self, token: Token<'a>) -> Proof<'a> {
        let mut attributes = Ok(());
        let path = path(self.tokens, token, |name| {
            if attributes.is_ok() {
                attributes = check_attribute(self.catalog, name);
            }
        });
        match self.tokens.peek() {
            Some(next) if next.is_symbol(b'(') => self.function(&path),
            Some(next) if next.is_string() => self.type_of(&path),
            _ => attributes,
        }
    }

    /// Behind the dot that follows a parenthesis or a bracket.
    fn attribute(&mut self) -> Proof<'a> {
        match self.tokens.advance() {
            Some(name) if name.is_name() => {
                if self.tokens.next_is(b'(') {
                    return unexpected(Some(name));
                }
                check_attribute(self.catalog, name.text)
            }
            Some(star) if star.kind == TokenKind::Symbol(b'*') => Ok(()),
            other => unexpected(other),
        }
    }

    fn function(&mut self, path: &Path<'a>) -> Proof<'a> {
        let name = path.name;
        let reason = |fault| Reason::Function(name, fault);
        // `name(x)` may also convert to a type.
        if self.catalog.unsafe_type
            && self.catalog.standing(Object::Type, path) == Ok(Some(Standing::Volatile))
        {
            return unknown(Reason::Type(name, Fault::Volatile));
        }
        match judge(self.catalog, Object::Function, path, reason)? {
            Standing::Setting if !self.names_custom_setting() => unknown(reason(Fault::Local)),
            _ => Ok(()),
        }
    }

    /// `('schema.setting'`: a setting that no server gives a value of its own.
    fn names_custom_setting(&self) -> bool {
        let mut behind = self.tokens.clone();
        behind.advance();
        behind
            .advance()
            .is_some_and(|token| token.kind == TokenKind::String && token.text.contains(&b'.'))
    }

    /// Takes the type that is named next.
    fn type_name(&mut self) -> Proof<'a> {
        self.tokens.accept("setof");
        let path = path_of_name(self.tokens)?;
        self.type_of(&path)
    }

    fn type_of(&self, path: &Path<'a>) -> Proof<'a> {
        let reason = |fault| Reason::Type(path.name, fault);
        judge(self.catalog, Object::Type, path, reason).map(|_| ())
    }

    #[inline]
    fn operator(&self, token: Token<'a>) -> Proof<'a> {
        if token.kind != TokenKind::Operator && self.catalog.plain_operators {
            return Ok(());
        }
        let standing = self.catalog.operator(token.text);
        accept(standing, |fault| Reason::Operator(token.text, fault)).map(|_| ())
    }
}

/// Proves that an object may be used.
fn judge<'a>(
    catalog: &Catalog,
    object: Object,
    path: &Path<'a>,
    reason: impl Fn(Fault) -> Reason<'a>,
) -> Proof<'a, Standing> {
    match catalog.standing(object, path) {
        Ok(standing) => accept(standing, reason),
        Err(()) => unknown(Reason::Name(path.name)),
    }
}

fn accept<'a>(
    standing: Option<Standing>,
    reason: impl Fn(Fault) -> Reason<'a>,
) -> Proof<'a, Standing> {
    match standing {
        Some(good @ (Standing::Syntax | Standing::Safe | Standing::Setting)) => Ok(good),
        Some(Standing::Local) => unknown(reason(Fault::Local)),
        Some(Standing::Session) => Err(Verdict {
            kind: Kind::Session,
            reason: reason(Fault::Session),
        }),
        Some(Standing::Volatile) => unknown(reason(Fault::Volatile)),
        None => unknown(reason(Fault::Unknown)),
    }
}

#[inline]
fn check_attribute<'a>(catalog: &Catalog, name: &'a [u8]) -> Proof<'a> {
    if catalog.attribute_may_write(name) {
        return unknown(Reason::Function(name, Fault::Volatile));
    }
    Ok(())
}

/// The last of the names that follow `first` behind dots, and the one before it.
/// Each behind a dot is told: it is a column, unless the whole is something else.
/// A star behind a dot is left out; behind the dot of an operator's schema, the
/// operator is what is next.
#[inline]
fn path<'a>(
    tokens: &mut Tokens<'a>,
    first: Token<'a>,
    mut behind_dot: impl FnMut(&'a [u8]),
) -> Path<'a> {
    let mut path = Path::of(first.text);
    while tokens.accept_symbol(b'.') {
        let Some(name) = tokens.peek().filter(Token::is_name) else {
            break;
        };
        tokens.skip();
        behind_dot(name.text);
        path = Path {
            schema: Some(path.name),
            name: name.text,
        };
    }
    path
}

pub(super) fn unknown<T>(reason: Reason<'_>) -> Proof<'_, T> {
    Err(Verdict {
        kind: Kind::Unknown,
        reason,
    })
}

pub(super) fn unexpected<T>(token: Option<Token<'_>>) -> Proof<'_, T> {
    unknown(token.map_or(Reason::Unreadable, |token| Reason::Unexpected(token.text)))
}

fn expect<'a>(token: Token<'a>, fits: bool) -> Proof<'a> {
    if fits {
        Ok(())
    } else {
        unexpected(Some(token))
    }
}
