//! Cases about runs: values, shapes, batches, threads and wrong requests.

use std::thread;

use super::values::{ensure_close, ensure_same, extremes, fp32, int64, text, zip};
use super::{Case, Outcome, Suite, answer, answers, ensure, ensure_error, output};
use crate::{BackendError, CancelFlag, DType, Instance, RunOptions, Tensor, Tensors};

const THREADS: usize = 4;
const RUNS_PER_THREAD: usize = 25;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("two inputs share their symbols", pair),
        Case::new("several dtypes and ranks in one model", many),
        Case::new("scalars", scalars),
        Case::new("fixed dimensions", fixed),
        Case::new("dimensions without a name", |suite| any_rows(suite, "unnamed", "x", &[4])),
        Case::new("any number of rows", |suite| any_rows(suite, "linear", "x", &[4])),
        Case::new("an image network at any number of rows", |suite| any_rows(suite, "image", "pixels", &[3, 16, 16])),
        Case::new("two open dimensions of many sizes", sequence),
        Case::new("rows that are mixed stay in one run", mixed_rows),
        Case::new("zero rows are answered by zero rows", zero_rows),
        Case::new("a batch of no requests has no answers", no_requests),
        Case::new("a batch keeps its order, and each answer is as if alone", batch),
        Case::new("only the wanted outputs are answered", wanted),
        Case::new("a default may be left out", |suite| default(suite, None)),
        Case::new("a default may be replaced", |suite| default(suite, Some(5.0))),
        Case::new("a wrong request is InvalidInput, and the instance lives on", wrong_requests),
        Case::new("one wrong request fails its batch", wrong_in_batch),
        Case::new("no elements and a huge dimension are InvalidInput", huge_and_empty),
        Case::new("a cancelled run is Cancelled, and the instance lives on", cancelled),
        Case::new("instances run on several threads at once", threads),
        Case::new("an instance outlives its model", outlives),
    ];
    cases.extend(DType::ALL.map(|dtype| Case::new(format!("identity {dtype}"), move |suite| identity(suite, dtype))));
    cases
}

fn inputs<const N: usize>(tensors: [(&str, Tensor); N]) -> Tensors {
    Tensors::from_iter(tensors)
}

fn identity(suite: &Suite<'_>, dtype: DType) -> Outcome {
    let mut instance = suite.instance(&format!("identity_{}", dtype.name().to_lowercase()))?;
    let all = extremes(dtype)?;
    for (start, rows) in [(0, 2), (0, 1), (1, 1)] {
        let some = all.slice_rows(start, rows).ok_or("the suite cannot slice")?;
        let answer = answer(&mut *instance, &inputs([("x", some.clone())]))?;
        ensure_same(output(&answer, "y")?, &some)?;
    }
    Ok(())
}

fn check_pair(instance: &mut dyn Instance, shape: &[usize], seed: usize) -> Outcome {
    let (a, b) = (fp32(shape, seed)?, fp32(shape, seed + 1)?);
    let answer = answer(instance, &inputs([("a", a.clone()), ("b", b.clone())]))?;
    ensure_close(output(&answer, "sum")?, &zip(&a, &b, |a, b| a + b)?)?;
    ensure_close(output(&answer, "difference")?, &zip(&a, &b, |a, b| a - b)?)
}

fn pair(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("pair")?;
    for (seed, shape) in [[1, 1], [2, 3], [3, 2], [1, 5], [2, 3]].iter().enumerate() {
        check_pair(&mut *instance, shape, seed)?;
    }
    // The order of the request is not the order of the model.
    let (a, b) = (fp32(&[2, 2], 1)?, fp32(&[2, 2], 2)?);
    let swapped = answer(&mut *instance, &inputs([("b", b.clone()), ("a", a.clone())]))?;
    ensure_close(output(&swapped, "difference")?, &zip(&a, &b, |a, b| a - b)?)
}

fn many(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("many")?;
    for rows in [1, 3] {
        let (a, b) = (fp32(&[rows, 2], rows)?, int64(&[rows, 3], -4)?);
        let answer = answer(&mut *instance, &inputs([("a", a.clone()), ("b", b)]))?;
        ensure_close(output(&answer, "doubled")?, &zip(&a, &a, |a, b| a + b)?)?;
        ensure_same(output(&answer, "next")?, &int64(&[rows, 3], -3)?)?;
        let elements = a.as_slice::<f32>().unwrap_or_default();
        let positive: Vec<u8> = elements.iter().map(|element| u8::from(*element > 0.0)).collect();
        let positive = Tensor::new(DType::Bool, [rows, 2], positive.into()).map_err(text)?;
        ensure_same(output(&answer, "positive")?, &positive)?;
        let totals: Vec<f32> = elements.chunks(2).map(|row| row.iter().sum()).collect();
        ensure_close(output(&answer, "total")?, &Tensor::from_slice([rows], &totals).map_err(text)?)?;
        let order: Vec<&str> = answer.iter().map(|(name, _)| name).collect();
        ensure(order == ["doubled", "next", "positive", "total"], || format!("the outputs came as {order:?}"))?;
    }
    Ok(())
}

fn scalars(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("scalar")?;
    check_scalar(&mut *instance, 2.0, 3.5)?;
    check_scalar(&mut *instance, -1.0, 1.0)?;
    // One element is not a scalar.
    let (a, b) = (fp32(&[1], 1)?, fp32(&[1], 2)?);
    ensure_invalid_input(&mut *instance, &inputs([("a", a), ("b", b)]))
}

fn check_scalar(instance: &mut dyn Instance, a: f32, b: f32) -> Outcome {
    let scalar = |value: f32| Tensor::from_slice(Vec::new(), &[value]).map_err(text);
    let answer = answer(instance, &inputs([("a", scalar(a)?), ("b", scalar(b)?)]))?;
    ensure_close(output(&answer, "sum")?, &scalar(a + b)?)
}

fn fixed(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("fixed")?;
    let x = fp32(&[2, 3], 1)?;
    let answer = answer(&mut *instance, &inputs([("x", x.clone())]))?;
    ensure_close(output(&answer, "y")?, &zip(&x, &x, |x, _| -x)?)
}

/// The answer to many rows is the answers to the rows.
fn any_rows(suite: &Suite<'_>, model: &str, input: &str, row: &[usize]) -> Outcome {
    let mut instance = suite.instance(model)?;
    for rows in [1, 2, 5, 2, 1] {
        let all = fp32(&[&[rows], row].concat(), rows)?;
        let together = answer(&mut *instance, &inputs([(input, all.clone())]))?;
        for (name, tensor) in together.iter() {
            ensure(tensor.rows() == Some(rows), || format!("{rows} rows were answered by {tensor:?}"))?;
            for index in 0..rows {
                let one = all.slice_rows(index, 1).ok_or("the suite cannot slice")?;
                let alone = answer(&mut *instance, &inputs([(input, one)]))?;
                let among = tensor.slice_rows(index, 1).ok_or("the suite cannot slice")?;
                ensure_close(&among, output(&alone, name)?)?;
            }
        }
    }
    Ok(())
}

/// More sizes than any backend would keep a plan for each.
fn sequence(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("sequence")?;
    for length in (1..=40).chain([3, 3, 39, 39, 39, 39, 39, 39, 39, 40]) {
        for rows in [1, 2] {
            let x = fp32(&[rows, length, 3], length)?;
            let elements = x.as_slice::<f32>().unwrap_or_default();
            let sums: Vec<f32> = (0..rows * 3)
                .map(|place| {
                    let (row, column) = (place / 3, place % 3);
                    (0..length).map(|step| elements[(row * length + step) * 3 + column]).sum()
                })
                .collect();
            let answer = answer(&mut *instance, &inputs([("x", x.clone())]))?;
            ensure_close(output(&answer, "y")?, &Tensor::from_slice([rows, 3], &sums).map_err(text)?)?;
        }
    }
    Ok(())
}

fn mixed_rows(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("mixed_rows")?;
    let requests = [[1.0_f32, 2.0, 3.0, 6.0], [10.0, 20.0, 30.0, 60.0]];
    let batch = requests.map(|elements| Tensor::from_slice([2, 2], &elements).map(|x| inputs([("x", x)])));
    let batch = batch.into_iter().collect::<Result<Vec<_>, _>>().map_err(text)?;
    for (answer, expected) in answers(&mut *instance, &batch)?.iter().zip([[2.0_f32, 4.0], [20.0, 40.0]]) {
        ensure_close(output(answer, "y")?, &Tensor::from_slice([2], &expected).map_err(text)?)?;
    }
    Ok(())
}

fn zero_rows(suite: &Suite<'_>) -> Outcome {
    for (model, input, shape, name, expected) in [
        ("linear", "x", vec![0, 4], "y", vec![0, 3]),
        ("image", "pixels", vec![0, 3, 16, 16], "scores", vec![0, 6]),
        ("sequence", "x", vec![0, 7, 3], "y", vec![0, 3]),
    ] {
        let mut instance = suite.instance(model)?;
        let answer = answer(&mut *instance, &inputs([(input, fp32(&shape, 1)?)]))?;
        let given = output(&answer, name)?;
        ensure(given.shape() == expected && given.dtype() == DType::Fp32, || format!("{model}: gave {given:?}"))?;
    }
    Ok(())
}

fn no_requests(suite: &Suite<'_>) -> Outcome {
    let given = answers(&mut *suite.instance("linear")?, &[])?;
    ensure(given.is_empty(), || format!("gave {} answers", given.len()))
}

fn batch(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("linear")?;
    let rows = [1, 3, 0, 2, 1];
    let requests: Result<Vec<Tensors>, String> =
        rows.iter().enumerate().map(|(seed, &rows)| Ok(inputs([("x", fp32(&[rows, 4], seed)?)]))).collect();
    let requests = requests?;
    let together = answers(&mut *instance, &requests)?;
    ensure(together.len() == rows.len(), || format!("{} requests got {} answers", rows.len(), together.len()))?;
    for (request, among) in requests.iter().zip(&together) {
        let alone = answer(&mut *instance, request)?;
        ensure_close(output(among, "y")?, output(&alone, "y")?)?;
    }
    Ok(())
}

fn wanted(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("many")?;
    let batch = [inputs([("a", fp32(&[1, 2], 1)?), ("b", int64(&[1, 3], 0)?)])];
    for (wanted, expected) in [(vec!["next"], vec!["next"]), (vec!["total", "doubled"], vec!["doubled", "total"])] {
        let options = RunOptions { outputs: wanted.into_iter().map(str::to_owned).collect(), ..RunOptions::default() };
        let answers = instance.run(&batch, &options).map_err(|error| error.to_string())?;
        let names: Vec<&str> = answers.iter().flat_map(Tensors::iter).map(|(name, _)| name).collect();
        ensure(names == expected, || format!("wanted {:?}, got {names:?}", options.outputs))?;
    }
    let options = RunOptions { outputs: vec!["no such output".to_owned()], ..RunOptions::default() };
    ensure_error(instance.run(&batch, &options), "InvalidInput", is_invalid_input)
}

fn default(suite: &Suite<'_>, replaced_by: Option<f32>) -> Outcome {
    let model = suite.load("default")?;
    let optional = model.signature().input("scale").map(|spec| spec.optional);
    ensure(optional == Some(true), || format!("'scale' is declared as {:?}", model.signature().input("scale")))?;
    let mut instance = model.instance(1).map_err(|error| error.to_string())?;
    for rows in [1, 2] {
        let x = fp32(&[rows, 2], 1)?;
        let mut request = inputs([("x", x.clone())]);
        if let Some(scale) = replaced_by {
            request.push("scale", Tensor::from_slice([1], &[scale]).map_err(text)?);
        }
        let answer = answer(&mut *instance, &request)?;
        let scale = replaced_by.unwrap_or(3.0);
        ensure_close(output(&answer, "y")?, &zip(&x, &x, |x, _| x * scale)?)?;
    }
    Ok(())
}

fn is_invalid_input(error: &BackendError) -> bool {
    matches!(error, BackendError::InvalidInput(_))
}

fn ensure_invalid_input(instance: &mut dyn Instance, request: &Tensors) -> Outcome {
    let result = instance.run(std::slice::from_ref(request), &RunOptions::default());
    ensure_error(result, "InvalidInput", is_invalid_input).map_err(|reason| format!("{request:?} {reason}"))
}

fn wrong_requests(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("pair")?;
    let good = || fp32(&[2, 3], 1);
    let wrong = [
        inputs([]),
        inputs([("a", good()?)]),
        inputs([("a", good()?), ("c", good()?)]),
        inputs([("a", good()?), ("b", good()?), ("c", good()?)]),
        inputs([("a", good()?), ("a", good()?)]),
        inputs([("a", good()?), ("b", int64(&[2, 3], 0)?)]),
        inputs([("a", good()?), ("b", fp32(&[2], 1)?)]),
        inputs([("a", good()?), ("b", fp32(&[1, 3], 1)?)]),
        inputs([("a", good()?), ("b", fp32(&[2, 4], 1)?)]),
        inputs([("a", good()?), ("b", extremes(DType::Bytes)?)]),
    ];
    for request in &wrong {
        ensure_invalid_input(&mut *instance, request)?;
        check_pair(&mut *instance, &[2, 3], 1)?;
    }
    let mut instance = suite.instance("linear")?;
    ensure_invalid_input(&mut *instance, &inputs([("x", fp32(&[1, 5], 1)?)]))?;
    ensure_invalid_input(&mut *instance, &inputs([("x", fp32(&[4], 1)?)]))
}

fn wrong_in_batch(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("linear")?;
    let batch = [inputs([("x", fp32(&[1, 4], 1)?)]), inputs([("x", fp32(&[1, 5], 1)?)])];
    ensure_error(instance.run(&batch, &RunOptions::default()), "InvalidInput", is_invalid_input)?;
    answer(&mut *instance, &batch[0]).map(drop)
}

/// The outputs of this one would take 12 TiB.
fn huge_and_empty(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("sequence")?;
    let shape = vec![1_usize << 40, 0, 3];
    let x = Tensor::from_slice::<f32>(shape, &[]).map_err(text)?;
    ensure_invalid_input(&mut *instance, &inputs([("x", x)]))
}

fn cancelled(suite: &Suite<'_>) -> Outcome {
    let mut instance = suite.instance("linear")?;
    let request = inputs([("x", fp32(&[1, 4], 1)?)]);
    let cancel = CancelFlag::new();
    cancel.cancel();
    let options = RunOptions { cancel, ..RunOptions::default() };
    let result = instance.run(std::slice::from_ref(&request), &options);
    ensure_error(result, "Cancelled", |error| matches!(error, BackendError::Cancelled))?;
    answer(&mut *instance, &request).map(drop)
}

fn threads(suite: &Suite<'_>) -> Outcome {
    let model = suite.load("pair")?;
    let model = &*model;
    let work = |thread: usize| -> Outcome {
        let mut instance = model.instance(1).map_err(|error| error.to_string())?;
        for turn in 0..RUNS_PER_THREAD {
            check_pair(&mut *instance, &[1 + turn % 3, 1 + (turn + thread) % 4], thread * RUNS_PER_THREAD + turn)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })
}

fn outlives(suite: &Suite<'_>) -> Outcome {
    let model = suite.load("pair")?;
    let mut instance = model.instance(1).map_err(|error| error.to_string())?;
    drop(model);
    check_pair(&mut *instance, &[2, 2], 1)?;
    check_pair(&mut *instance, &[3, 1], 2)
}
