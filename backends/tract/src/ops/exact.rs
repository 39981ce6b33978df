//! `Div`, `Mul`, `Pow` and `Sqrt` as they are written: tract's optimiser makes a product with the reciprocal of a quotient, whose last digit
//! is another, and that overflows where the quotient does not; the number itself of the square of its root, also below zero; and
//! the root of a power of one half, which of what is infinite is none.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::SpecialOps as _;
use tract_onnx::tract_core::internal::{
    DatumType, OutletId, StaticName, TValue, TVec, Tensor, TractResult, TypedModel, TypedModelPatch, TypedNode,
    Validation,
};
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::math::{Div, Mul, Pow, Sqrt};
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy};
use tract_onnx::tract_hir::internal::{Expansion, expand};
use tract_onnx::tract_hir::ops::binary::{self, wire_cast, wire_rank_broadcast};
use tract_onnx::tract_hir::ops::element_wise::ElementWiseIntoHir as _;

use super::Read;

pub(super) fn quotient(_: &ParsingContext, _: &NodeProto) -> Read {
    Ok((expand(Written(Exact::Quotient)), Vec::new()))
}

pub(super) fn product(_: &ParsingContext, _: &NodeProto) -> Read {
    Ok((expand(Written(Exact::Product)), Vec::new()))
}

pub(super) fn power(_: &ParsingContext, _: &NodeProto) -> Read {
    Ok((expand(Written(Exact::Power)), Vec::new()))
}

pub(super) fn root(_: &ParsingContext, _: &NodeProto) -> Read {
    Ok((ElementWiseOp(Box::new(Root), None).into_hir(), Vec::new()))
}

/// tract's `Sqrt`, which its optimiser does not know by this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root;

impl ElementWiseMiniOp for Root {
    fn name(&self) -> String {
        "Root".to_owned()
    }

    fn validation(&self) -> Validation {
        Sqrt {}.validation()
    }

    fn eval_in_place(&self, t: &mut Tensor, out_dt: Option<DatumType>) -> TractResult<()> {
        Sqrt {}.eval_in_place(t, out_dt)
    }

    fn operating_datum_type(&self, dt: DatumType) -> DatumType {
        Sqrt {}.operating_datum_type(dt)
    }
}

/// An operator of tract's of which some rules of its optimiser are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Exact {
    Quotient,
    /// Of integers: of a number with itself tract makes a square, which stops at the largest where a product goes on from the
    /// smallest.
    Product,
    Power,
}

impl Exact {
    fn plain(self) -> Box<dyn BinMiniOp> {
        match self {
            Self::Quotient => Box::new(Div),
            Self::Product => Box::new(Mul),
            Self::Power => Box::new(Pow),
        }
    }
}

impl BinMiniOp for Exact {
    fn name(&self) -> &'static str {
        match self {
            Self::Quotient => "Quotient",
            Self::Product => "Product",
            Self::Power => "Power",
        }
    }

    fn validation(&self) -> Validation {
        self.plain().validation()
    }

    fn operating_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        self.plain().operating_datum_type(a, b)
    }

    fn result_datum_type(&self, a: DatumType, b: DatumType) -> TractResult<DatumType> {
        self.plain().result_datum_type(a, b)
    }

    fn eval_in_a(&self, a: &mut Tensor, b: &Tensor) -> TractResult<()> {
        self.plain().eval_in_a(a, b)
    }

    fn eval_out_of_place(&self, c: &mut Tensor, a: &Tensor, b: &Tensor) -> TractResult<()> {
        self.plain().eval_out_of_place(c, a, b)
    }

    fn is_commutative(&self) -> bool {
        false
    }

    fn neutral_element(&self) -> Option<i64> {
        Some(1)
    }

    fn eval(&self, a: TValue, b: TValue, c_dt: DatumType) -> TractResult<Tensor> {
        self.plain().eval(a, b, c_dt)
    }

    fn declutter(&self, model: &TypedModel, node: &TypedNode) -> TractResult<Option<TypedModelPatch>> {
        match self {
            Self::Quotient | Self::Product => Ok(None),
            // As of a product.
            Self::Power if model.outlet_fact(node.inputs[0])?.datum_type.is_integer() => Ok(None),
            Self::Power => {
                let exponent = model.outlet_fact(node.inputs[1])?.uniform.clone();
                let is_half = exponent
                    .is_some_and(|exponent| exponent.cast_to_scalar::<f32>().is_ok_and(|exponent| exponent == 0.5));
                if is_half { Ok(None) } else { Pow.declutter(model, node) }
            }
        }
    }
}

/// The operator on the numbers that it is for; on others tract's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Written(Exact);

impl Expansion for Written {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let exact = self.0;
        // Of a power the exponent may be of another type.
        let dtype = move |a: DatumType, b: DatumType| match exact {
            Exact::Quotient | Exact::Product => exact.result_datum_type(a, b),
            Exact::Power => Ok(a),
        };
        binary::rules(solver, inputs, outputs, dtype)
    }

    fn wire(&self, prefix: &str, model: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        let [a, b] = [inputs[0], inputs[1]].map(|input| model.outlet_fact(input).map(|fact| fact.datum_type));
        let (a, b) = (a?, b?);
        let wires = wire_rank_broadcast(prefix, model, inputs)?;
        if self.0 == Exact::Power && a.is_integer() != b.is_integer() {
            let wires = wire_cast(prefix, model, &wires, DatumType::F64)?;
            let power = model.wire_node(format!("{prefix}.power"), TypedBinOp(Box::new(self.0), None), &wires)?;
            return model.wire_node(prefix, cast(a), &power);
        }
        let dtype = self.0.operating_datum_type(a, b)?;
        let wires = wire_cast(prefix, model, &wires, dtype)?;
        // Sizes are computed with as tract does, which sees through them.
        let is_own = match self.0 {
            Exact::Quotient => dtype.is_float(),
            Exact::Product => dtype.is_integer(),
            Exact::Power => dtype.is_float() || dtype.is_integer(),
        };
        let operator = if is_own { Box::new(self.0) } else { self.0.plain() };
        model.wire_node(prefix, TypedBinOp(operator, None), &wires)
    }
}
