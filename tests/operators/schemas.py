"""Writes backends/tract/schemas.tsv: of each operator its versions, whether it takes any number of operands, the
defaults of its attributes, and the names of its operands."""

import pathlib

import onnx
from onnx import defs
from onnx.defs import OpSchema

TARGET = pathlib.Path(__file__).parent.parent.parent / "backends/tract/schemas.tsv"


def default(attribute):
    """The default as text; none where there is none, or where it is a list or a tensor."""
    value = attribute.default_value
    kinds = {onnx.AttributeProto.INT: "i", onnx.AttributeProto.FLOAT: "f", onnx.AttributeProto.STRING: "s"}
    field = kinds.get(value.type)
    if field is None:
        return None
    text = getattr(value, field)
    return text.decode() if isinstance(text, bytes) else repr(text)


def line(schema):
    variadic = any(operand.option == OpSchema.FormalParameterOption.Variadic for operand in schema.inputs)
    defaults = [(name, default(attribute)) for name, attribute in sorted(schema.attributes.items())]
    written = ",".join(f"{name}={text}" for name, text in defaults if text is not None)
    name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
    operands = ",".join(operand.name for operand in schema.inputs)
    return name, schema.since_version, f"{name}\t{schema.since_version}\t{'many' if variadic else 'fixed'}\t{written}\t{operands}"


def main():
    schemas = [schema for schema in defs.get_all_schemas_with_history() if schema.domain in ("", "ai.onnx.ml")]
    lines = sorted(line(schema) for schema in schemas)
    table = "".join(f"{text}\n" for _, _, text in lines)
    # What is the same stays untouched: everything is compiled anew after it.
    if not TARGET.exists() or TARGET.read_text() != table:
        TARGET.write_text(table)
    print(f"{len(lines)} versions of operators written to {TARGET}")


if __name__ == "__main__":
    main()
