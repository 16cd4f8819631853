/// Messages from a client, one after the other, as bytes.
///
/// What PostgreSQL's manual, "Message Formats", says; nothing is checked, so
/// that wrong messages can be made too.
#[derive(Clone, Debug, Default)]
pub struct Frontend {
    pub bytes: Vec<u8>,
}

impl Frontend {
    pub fn new() -> Frontend {
        Frontend::default()
    }

    /// A message with any tag and body.
    pub fn message(mut self, tag: u8, body: &[u8]) -> Frontend {
        self.bytes.push(tag);
        let length = body.len() as u32 + 4;
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(body);
        self
    }

    pub fn query(self, sql: &str) -> Frontend {
        self.message(b'Q', &cstr(sql))
    }

    /// Parse without parameter types.
    pub fn parse(self, name: &str, sql: &str) -> Frontend {
        self.parse_typed(name, sql, &[])
    }

    /// Parse with the OIDs of parameter types.
    pub fn parse_typed(self, name: &str, sql: &str, types: &[u32]) -> Frontend {
        let mut body = [cstr(name), cstr(sql)].concat();
        body.extend((types.len() as u16).to_be_bytes());
        for oid in types {
            body.extend(oid.to_be_bytes());
        }
        self.message(b'P', &body)
    }

    /// Bind with text parameters and text results.
    pub fn bind(self, portal: &str, statement: &str, parameters: &[&str]) -> Frontend {
        let mut body = [cstr(portal), cstr(statement), vec![0, 0]].concat();
        body.extend((parameters.len() as u16).to_be_bytes());
        for parameter in parameters {
            body.extend((parameter.len() as u32).to_be_bytes());
            body.extend(parameter.as_bytes());
        }
        body.extend([0, 0]);
        self.message(b'B', &body)
    }

    /// Describe a statement (`S`) or a portal (`P`).
    pub fn describe(self, kind: u8, name: &str) -> Frontend {
        self.message(b'D', &[vec![kind], cstr(name)].concat())
    }

    /// Close a statement (`S`) or a portal (`P`).
    pub fn close(self, kind: u8, name: &str) -> Frontend {
        self.message(b'C', &[vec![kind], cstr(name)].concat())
    }

    /// Execute up to `rows` rows of a portal; 0 means all.
    pub fn execute(self, portal: &str, rows: u32) -> Frontend {
        let body = [cstr(portal), rows.to_be_bytes().to_vec()].concat();
        self.message(b'E', &body)
    }

    /// Parse, Bind, Execute of the unnamed statement and portal.
    pub fn run(self, sql: &str, parameters: &[&str]) -> Frontend {
        self.parse("", sql).bind("", "", parameters).execute("", 0)
    }

    pub fn sync(self) -> Frontend {
        self.message(b'S', &[])
    }

    pub fn flush(self) -> Frontend {
        self.message(b'H', &[])
    }

    pub fn copy_data(self, data: &[u8]) -> Frontend {
        self.message(b'd', data)
    }

    pub fn copy_done(self) -> Frontend {
        self.message(b'c', &[])
    }

    pub fn copy_fail(self, reason: &str) -> Frontend {
        self.message(b'f', &cstr(reason))
    }

    /// FunctionCall with arguments and result in text form.
    pub fn function_call(self, function: u32, arguments: &[&str]) -> Frontend {
        let mut body = function.to_be_bytes().to_vec();
        body.extend([0, 0]);
        body.extend((arguments.len() as u16).to_be_bytes());
        for argument in arguments {
            body.extend((argument.len() as u32).to_be_bytes());
            body.extend(argument.as_bytes());
        }
        body.extend([0, 0]);
        self.message(b'F', &body)
    }

    pub fn password(self, body: &[u8]) -> Frontend {
        self.message(b'p', body)
    }

    pub fn terminate(self) -> Frontend {
        self.message(b'X', &[])
    }

    /// A startup packet of protocol `major.minor`; user and database are
    /// parameters like any others.
    pub fn startup(mut self, protocol: (u16, u16), parameters: &[(&str, &str)]) -> Frontend {
        let mut body = [protocol.0.to_be_bytes(), protocol.1.to_be_bytes()].concat();
        for (name, value) in parameters {
            body.extend(cstr(name));
            body.extend(cstr(value));
        }
        body.push(0);
        self.bytes.extend((body.len() as u32 + 4).to_be_bytes());
        self.bytes.extend(body);
        self
    }

    /// SSLRequest (1234, 5679), GSSENCRequest (1234, 5680).
    pub fn request(mut self, code: (u16, u16)) -> Frontend {
        self.bytes.extend(8u32.to_be_bytes());
        self.bytes.extend(code.0.to_be_bytes());
        self.bytes.extend(code.1.to_be_bytes());
        self
    }

    /// CancelRequest with the body of a BackendKeyData.
    pub fn cancel(mut self, key: &[u8]) -> Frontend {
        self.bytes.extend((key.len() as u32 + 8).to_be_bytes());
        self.bytes.extend(1234u16.to_be_bytes());
        self.bytes.extend(5678u16.to_be_bytes());
        self.bytes.extend(key);
        self
    }
}

/// A C string.
pub fn cstr(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
