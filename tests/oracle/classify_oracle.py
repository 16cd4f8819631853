"""What PostgreSQL's own grammar (libpg_query) says about statements.

Reads one JSON string per line; writes for each one JSON line: null if the
grammar refuses the text, or a list with an object for each statement:
  kind        "read", "write" or "other"
  functions, types, relations, operators, attributes
              the names, each [schema or null, name], that it would look up
"""

import json
import sys

from pglast.parser import ParseError, parse_sql_json

DATA_CHANGING = {"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"}
# A_Expr_Kind whose name is a keyword.
BETWEEN = {f"AEXPR_{n}BETWEEN{s}" for n in ("", "NOT_") for s in ("", "_SYM")}


class Facts:
    def __init__(self):
        self.writes = False
        self.names = {k: [] for k in ("functions", "types", "relations", "operators", "attributes")}

    def add(self, kind, parts):
        parts = [part["String"].get("sval", "") for part in parts if "String" in part]
        schema = parts[-2] if len(parts) > 1 else None
        self.names[kind].append([schema, parts[-1]])

    def walk(self, node, known=frozenset()):
        if isinstance(node, list):
            for item in node:
                self.walk(item, known)
            return
        if not isinstance(node, dict):
            return
        known = self.with_queries(node.get("withClause"), known)
        if "relname" in node and "relpersistence" in node:
            schema = node.get("schemaname")
            if schema is not None or node["relname"] not in known:
                self.names["relations"].append([schema, node["relname"]])
        if "funcname" in node:
            self.add("functions", node["funcname"])
        if "RangeTableSample" in node:
            self.add("functions", node["RangeTableSample"]["method"])
        if isinstance(node.get("names"), list) and "typemod" in node:
            self.add("types", node["names"])
        if isinstance(node.get("name"), list) and node.get("kind", "").startswith("AEXPR"):
            if node["kind"] not in BETWEEN:
                self.add("operators", node["name"])
        for operator in ("operName", "useOp"):
            if operator in node:
                self.add("operators", node[operator])
        fields = node.get("fields", [])[1:] + node.get("indirection", [])
        for field in fields:
            if "String" in field:
                self.names["attributes"].append([None, field["String"].get("sval", "")])
        self.writes |= "lockingClause" in node or "intoClause" in node
        self.writes |= not DATA_CHANGING.isdisjoint(node)
        for key, child in node.items():
            if key != "withClause":
                self.walk(child, known)

    def with_queries(self, clause, known):
        if clause is None:
            return known
        ctes = [cte["CommonTableExpr"] for cte in clause["ctes"]]
        if clause.get("recursive"):
            known = known | {cte["ctename"] for cte in ctes}
        for cte in ctes:
            self.walk(cte, known)
            known = known | {cte["ctename"]}
        return known


def kind(name, statement, facts):
    if name == "SelectStmt":
        facts.walk(statement)
        return "write" if facts.writes else "read"
    if name in DATA_CHANGING:
        return "write"
    if name == "ExplainStmt":
        (inner_name, inner), = statement["query"].items()
        # As if with ANALYZE: without it, all that is read is what plans are made of.
        return kind(inner_name, inner, facts)
    if name == "CopyStmt":
        if statement.get("is_from") or statement.get("is_program") or "filename" in statement:
            return "write"
        facts.walk(statement)
        return "write" if facts.writes else "read"
    return "other"


def judge(text):
    try:
        tree = json.loads(parse_sql_json(text))
    except ParseError:
        return None
    answer = []
    for statement in tree.get("stmts", []):
        facts = Facts()
        (name, body), = statement["stmt"].items()
        answer.append({"kind": kind(name, body, facts), **facts.names})
    return answer


def main():
    for line in sys.stdin:
        print(json.dumps(judge(json.loads(line))))


main()
