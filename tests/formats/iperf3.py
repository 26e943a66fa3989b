"""Checks a document with a JSON schema, and prints its errors as JSON."""
import json
import sys

from jsonschema import Draft202012Validator

schema, document = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:])
Draft202012Validator.check_schema(schema)
found = Draft202012Validator(schema).iter_errors(document)
print(json.dumps([f"{error.json_path}: {error.message}" for error in found]))
