"""What a case is made of: operands and attributes of one operator, the model around it, and the answer that is right."""

import hashlib
import itertools
import warnings

import ml_dtypes  # noqa: F401  onnx needs it
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)

UNDER_TEST = "tested"
NEWEST = 24
"""The newest operator set of a case, unless an operator came later: ONNX Runtime 1.32 runs no newer one."""
OLDEST = 7
"""The oldest: ONNX Runtime takes none older."""

DTYPES = {
    "f32": (np.float32, "FP32", "tensor(float)"),
    "f16": (np.float16, "FP16", "tensor(float16)"),
    "f64": (np.float64, "FP64", "tensor(double)"),
    "i8": (np.int8, "INT8", "tensor(int8)"),
    "i16": (np.int16, "INT16", "tensor(int16)"),
    "i32": (np.int32, "INT32", "tensor(int32)"),
    "i64": (np.int64, "INT64", "tensor(int64)"),
    "u8": (np.uint8, "UINT8", "tensor(uint8)"),
    "u16": (np.uint16, "UINT16", "tensor(uint16)"),
    "u32": (np.uint32, "UINT32", "tensor(uint32)"),
    "u64": (np.uint64, "UINT64", "tensor(uint64)"),
    "bool": (np.bool_, "BOOL", "tensor(bool)"),
}
WIRE = {np.dtype(kind): wire for kind, wire, _ in DTYPES.values()}
FLOATS = ("f32", "f16", "f64")
SIGNED = ("i8", "i16", "i32", "i64")
UNSIGNED = ("u8", "u16", "u32", "u64")
INTEGERS = SIGNED + UNSIGNED
NUMBERS = FLOATS + INTEGERS
ALL = NUMBERS + ("bool",)


class Dim:
    """An operand that the graph takes of a shape whose sizes are open: numbers that a request sets by its shapes."""

    def __init__(self, *sizes, scalar=False, row=False):
        """A vector; with `scalar` the first of them alone, with `row` one row of them."""
        self.sizes, self.scalar, self.row = sizes, scalar, row

    @property
    def shape(self):
        return () if self.scalar else (1, len(self.sizes)) if self.row else (len(self.sizes),)


WIDE = 2**40 + 3
"""An integer that 32 bits do not hold."""


def values(dtype, shape, seed=0, low=-3, high=3, wide=None):
    """Numbers of all signs; of integers in `low..=high`, or from 0 where the dtype has no sign. The last of INT64 is a wide one, unless a range is named."""
    wide = (low, high) == (-3, 3) if wide is None else wide
    random = np.random.default_rng(seed)
    kind = np.dtype(DTYPES[dtype][0])
    if kind == np.bool_:
        return random.integers(0, 2, shape).astype(bool)
    if kind.kind == "f":
        return random.normal(0, 1, shape).astype(kind)
    made = np.asarray(random.integers(max(low, 0) if kind.kind == "u" else low, high + 1, shape)).astype(kind)
    if wide and kind == np.int64 and made.size > 1:
        made.flat[-1] = WIDE
    return made


def ints(*numbers):
    return np.array(numbers, dtype=np.int64)


def scalar(number, dtype="i64"):
    return np.array(number, dtype=DTYPES[dtype][0])


def versions(operator, domain="", oldest=OLDEST):
    """For each version of the operator an operator set in which it holds."""
    found = {}
    for opset in range(oldest, defs.onnx_opset_version() + 1):
        try:
            since = defs.get_schema(operator, opset, domain).since_version
        except defs.SchemaError:
            continue
        if since not in found:
            found[since] = opset
    return found


def allowed(operator, opset, operand, domain=""):
    """The dtypes that the operator takes as this operand."""
    schema = defs.get_schema(operator, opset, domain)
    operand = min(operand, len(schema.inputs) - 1)
    types = schema.inputs[operand].types
    return [dtype for dtype, (_, _, name) in DTYPES.items() if name in types]


RARE = ("i8", "i16", "u16", "u32", "u64", "f64")
"""Dtypes that few models compute in: they are tried in new operator sets only, and without the choices of constants."""
RARE_WELCOME = ("Cast", "QuantizeLinear", "DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv", "DynamicQuantizeLinear", "BitShift")
MOVES = tuple(
    "Reshape Flatten Squeeze Unsqueeze Transpose Concat Split Slice Gather GatherElements GatherND ScatterElements ScatterND Scatter Expand Tile Pad Compress DepthToSpace SpaceToDepth".split()
)
"""Operators that move elements: of what few models move so, the newer versions are tried."""
ALIKE = 2
"""Of cases that differ in nothing that is likely to matter so many are drawn."""
TELLERS = (*"Add Sub Mul Div Pow Mod And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual BitShift BitwiseAnd BitwiseOr BitwiseXor Where Clip".split(), "MatMul", "Gemm", "Einsum")
"""Operators that may compute otherwise where their first operand is a constant."""
SPATIAL = ("Conv", "Pool", "Resize", "Norm", "Gather", "Scatter", "MatMul", "Transpose", "Flatten", "Attention", "LRN", "Softmax", "Hardmax", "Compress", "Trilu", "DFT", "Rotary", "uantizeLinear", "QLinear")


def short(operand):
    return next(name for name, (kind, _, _) in DTYPES.items() if np.dtype(kind) == operand.dtype)


def digest(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def sort_of(operator, operands, attributes, opset, const, outputs):
    """What cases have in common that are alike for all that is known. The forms themselves are told apart elsewhere:
    this only keeps the suite small."""
    def operand(place, given):
        if given is None:
            return "-"
        if isinstance(given, Dim):
            return ("dim", given.scalar, given.row)
        known = place in const and (place > 0 or operator in TELLERS)
        content = ()
        if known and operator in ("Add", "Sub", "Mul", "Div") and given.size and (given == given.ravel()[0]).all():
            content = (float(given.ravel()[0]),)
        elif known and (place or operator == "Mod") and given.dtype.kind in "iu" and given.size <= 8:
            content = (bool((given < 0).any()), bool((given == 0).any()), any(abs(int(number)) > 2**30 for number in given.ravel()), given.size == 0)
        elif known and place and operator == "Pow":
            content = tuple(given.ravel()[:1].tolist())
        nothing = tuple(size == 0 for size in given.shape) if 0 in given.shape else ()
        return (short(given), known, content, nothing, given.ndim if any(word in operator for word in SPATIAL) else 0)

    arrays = [given for given in operands if isinstance(given, np.ndarray)]
    first = arrays[0].ndim if arrays else 0

    def attribute(name, value):
        if name == "axis" and first:
            place = value % first
            return "first" if place == 0 else "last" if place == first - 1 else "middle"
        if isinstance(value, float):
            return (value == 0, value < 0)
        if isinstance(value, list) and value and isinstance(value[0], (int, float)):
            half = value[: len(value) // 2] == value[len(value) // 2 :]
            return (name != "axes" and min(value) < 0, max(value) == 0, set(value) == {1}, half, name == "axes" and (len(value), len(value) == first))
        return brief(value)

    shapes = [array.shape for array in arrays]
    broadcast = ()
    if len(shapes) > 1 and operator not in ("Slice", "Pad", "Resize", "Concat", "Range"):
        try:
            whole = np.broadcast_shapes(*shapes)
            broadcast = tuple(shape == whole for shape in shapes)
        except ValueError:
            broadcast = ()
    classes = tuple(sorted((name, attribute(name, value)) for name, value in attributes.items()))
    return (operator, opset, tuple(operand(*given) for given in enumerate(operands)), classes, tuple(bool(name) for name in outputs), broadcast)


DEADLY = ("LSTM", "GRU", "RNN", "Einsum", "InstanceNormalization")


class Suite:
    """Collects cases, drawn by a hash where only a part is wanted."""

    def __init__(self, part=None):
        self.part, self.names, self.sorts = part, set(), {}
        self.group = ""
        """Cases of different groups are not alike."""
        self.elementwise = False
        """Whether the operators of the cases that are added compute each element by itself."""

    def wants(self, operator, operands, attributes, opset, const, outputs, options):
        kinds = {short(operand) for operand in operands if isinstance(operand, np.ndarray)}
        if kinds & set(RARE) and operator not in RARE_WELCOME and not options.get("domain"):
            stored = options.get("stored", ())
            if opset < 13 and operator not in ("Mod", "ConstantOfShape") or set(const) - set(stored):
                return False
        if "f16" in kinds and opset < 11 and operator != "Cast":
            return False
        if opset < 13 and kinds & {"u8", "bool"} and operator in MOVES:
            return False
        return True

    def cases(self):
        """Those that are drawn: some of each sort, and of these all or a tenth."""
        for alike in self.sorts.values():
            for _, case in sorted(alike, key=lambda entry: entry[0])[:ALIKE]:
                if self.part is None or digest(f"{self.part} {case[0]}") % 10 == 0:
                    yield case

    def add(self, operator, operands, attributes=None, *, opset, const=(), outputs=1, **options):
        """One case. `operands` are arrays, `Dim`s, or None where one is left out; those at the places `const` are stored."""
        attributes = dict(attributes or {})
        operands = arrays(operands)
        said = [describe(operand, place in const) for place, operand in enumerate(operands)]
        outputs = [f"y{place}" for place in range(outputs)] if isinstance(outputs, int) else outputs
        const = tuple(place for place in const if place < len(operands) and operands[place] is not None)
        if not self.wants(operator, operands, attributes, opset, const, outputs, options):
            return
        written = " ".join(f"{name}={brief(value)}" for name, value in attributes.items())
        name = f"{operator} {opset} [{', '.join(said)}] {written} {'' if len(outputs) == 1 else outputs} {options.get('label', '')} {'same' if options.get('same') else ''}".strip()
        if name in self.names:
            return
        self.names.add(name)
        options = {**options, "elementwise": self.elementwise}
        case = (name, operator, operands, attributes, opset, frozenset(const), outputs, options)
        large = any(isinstance(operand, np.ndarray) and operand.size > 1000 for operand in operands)
        sort = name if options.get("unlike") or options.get("same") or large else sort_of(operator, operands, attributes, opset, const, outputs)
        self.sorts.setdefault((self.group, sort), []).append((digest(name), case))

    def vary(self, operator, operands, attributes=None, *, opset, stored=(), **options):
        """The same case with every choice of operands that are constants; those at the places `stored` always are."""
        operands = arrays(operands)
        free = [place for place, operand in enumerate(operands) if isinstance(operand, np.ndarray) and place not in stored]
        if len(free) <= 3:
            chosen = [combination for count in range(len(free) + 1) for combination in itertools.combinations(free, count)]
        else:
            chosen = [(), tuple(free[1:]), tuple(free), tuple(place for place in free if place in (1, 2))]
        for combination in chosen:
            self.add(operator, operands, attributes, opset=opset, const=tuple(stored) + combination, stored=stored, **options)


def arrays(operands):
    """NumPy makes numbers of arrays without dimensions where it computes with them."""
    return [np.asarray(operand) if isinstance(operand, np.generic) else operand for operand in operands]


def describe(operand, constant):
    if operand is None:
        return "-"
    if isinstance(operand, Dim):
        return f"dim{list(operand.sizes)}{'s' if operand.scalar else ''}{'r' if operand.row else ''}"
    hashed = hashlib.sha256(operand.tobytes()).hexdigest()[:4]
    content = str(operand.tolist()) if operand.size <= 4 and operand.dtype.kind in "iu" else hashed
    return f"{short(operand)}{list(operand.shape)}{content}{'c' if constant else ''}".replace(" ", "")


def brief(value):
    if isinstance(value, (onnx.GraphProto, onnx.TensorProto)):
        return hashlib.sha256(value.SerializeToString()).hexdigest()[:6]
    text = str(value).replace(" ", "")
    return text if len(text) < 60 else text[:40] + hashlib.sha256(text.encode()).hexdigest()[:6]


def model_of(operator, operands, attributes, opset, const, outputs, options):
    """The model, and what is asked of it."""
    nodes, inputs, initializers, names, asked = [], [], [], [], {}
    for place, operand in enumerate(operands):
        name = f"x{place}"
        earlier = [number for number in range(place) if options.get("same") and operands[number] is operand]
        if operand is not None and earlier:
            names.append(f"x{earlier[0]}")
            continue
        names.append("" if operand is None else name)
        if isinstance(operand, Dim):
            source = f"s{place}"
            symbols = [f"d{place}_{axis}" for axis in range(len(operand.sizes))]
            inputs.append(helper.make_tensor_value_info(source, TensorProto.FLOAT, symbols))
            asked[source] = np.zeros(operand.sizes, dtype=np.float32)
            shape = f"{name}_shape" if operand.scalar or operand.row else name
            nodes.append(helper.make_node("Shape", [source], [shape], name=f"around_shape{place}"))
            if operand.scalar:
                initializers.append(numpy_helper.from_array(scalar(0), f"{name}_first"))
                nodes.append(helper.make_node("Gather", [shape, f"{name}_first"], [name], name=f"around_gather{place}"))
            if operand.row:
                initializers.append(numpy_helper.from_array(ints(1, -1), f"{name}_row"))
                nodes.append(helper.make_node("Reshape", [shape, f"{name}_row"], [name], name=f"around_reshape{place}"))
        elif operand is not None and place in const:
            initializers.append(numpy_helper.from_array(operand, name))
        elif operand is not None:
            kind = helper.np_dtype_to_tensor_dtype(operand.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, list(operand.shape)))
            asked[name] = operand
    while names and not names[-1]:
        names.pop()
    domain = options.get("domain", "")
    node = helper.make_node(operator, names, outputs, name=UNDER_TEST, domain=domain, **{name: value for name, value in attributes.items() if value != []})
    # Of an empty list no dtype can be told.
    node.attribute.extend(helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS) for name, value in attributes.items() if value == [])
    nodes.append(node)
    made = [name for name in outputs if name]
    for name, array in options.get("outer", {}).items():
        initializers.append(numpy_helper.from_array(array, name))
    if not inputs:
        # A model answers requests: this one has nothing to do with the node.
        inputs.append(helper.make_tensor_value_info("unrelated", TensorProto.FLOAT, [2]))
        nodes.append(helper.make_node("Identity", ["unrelated"], ["same"], name="around_identity"))
        asked["unrelated"] = np.zeros(2, dtype=np.float32)
        made = [*made, "same"]
    sets = [helper.make_opsetid("", opset if not domain else options.get("standard", 17))]
    if domain:
        sets.append(helper.make_opsetid(domain, opset))
    graph = helper.make_graph(nodes, "case", inputs, [onnx.ValueInfoProto(name=name) for name in made], initializers)
    model = helper.make_model(graph, opset_imports=sets, ir_version=min(onnx.IR_VERSION, 10 if opset < 25 else 13))
    return model, asked


def by_runtime(model, asked):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, asked)


def by_reference(model, asked):
    with np.errstate(all="ignore"):
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, asked)]


def attempt(run, model, asked):
    try:
        found = run(model, asked)
    except Exception as error:  # noqa: BLE001  whatever goes wrong: this engine has no answer
        return None, f"{type(error).__name__}: {error}"
    if not all(isinstance(array, np.ndarray) and array.dtype in WIRE for array in found):
        return None, "an output that no tensor of the protocol can be"
    return found, None


def agree(one, other, steps):
    for left, right in zip(one, other, strict=True):
        if left.shape != right.shape or left.dtype != right.dtype:
            return False
        if left.dtype.kind == "f":
            tolerance = 1e-2 if left.dtype == np.float16 else 1e-3
            with np.errstate(all="ignore"):
                wide = np.asarray(right, dtype=np.float64)
                finite = np.abs(wide[np.isfinite(wide)])
                scale = max(1.0, float(finite.max()) if finite.size else 1.0)
                if not np.allclose(np.asarray(left, dtype=np.float64), wide, rtol=tolerance, atol=tolerance * 0.1 * scale, equal_nan=True):
                    return False
        elif left.dtype == np.bool_:
            if not np.array_equal(left, right):
                return False
        elif left.size and int(np.abs(left.astype(object) - right.astype(object)).max()) > steps:
            return False
    return True


def tensor(name, array):
    array = np.asarray(array)
    return {"name": name, "dtype": WIRE[array.dtype], "shape": list(array.shape), "data": array.tobytes().hex()}


def finish(case):
    """The case as a document, and what there is to say of it: why there is none, or that the engines disagree. ONNX
    Runtime is then right: what tract is trusted with answers as it does."""
    name, operator, operands, attributes, opset, const, outputs, options = case
    try:
        model, asked = model_of(operator, operands, attributes, opset, const, outputs, options)
    except Exception as error:  # noqa: BLE001  a combination that no model can have
        return None, f"{name}: cannot be written: {error}"
    empty = any(isinstance(operand, np.ndarray) and operand.size == 0 for operand in operands)
    # On tensors without elements ONNX Runtime's kernels of some end the process.
    asks_runtime = not (empty and operator in DEADLY)
    first, why = attempt(by_runtime, model, asked) if asks_runtime else (None, "not asked")
    second, also = (None, "not asked") if options.get("any") or options.get("unlike") else attempt(by_reference, model, asked)
    if first is None and second is None:
        return None, f"{name}: no answer: {why.splitlines()[0][:160]}"
    steps = options.get("steps", 0)
    disputed = first is not None and second is not None and not agree(first, second, steps)
    right = first if first is not None else second
    for declared, array in zip(model.graph.output, right, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        declared.CopyFrom(helper.make_tensor_value_info(declared.name, kind, [None] * array.ndim))
    document = {
        "name": name,
        "model": model.SerializeToString().hex(),
        "inputs": [tensor(given, array) for given, array in asked.items()],
        "outputs": [tensor(declared.name, array) for declared, array in zip(model.graph.output, right, strict=True)],
        "steps": steps,
        "any": bool(options.get("any")),
        "elementwise": options["elementwise"],
        "may_fail": bool(options.get("may_fail", empty)),
    }
    return document, f"{name}: the engines disagree" if disputed else None
