//! Operators of classical machine learning.

use super::language::{Case, check};

pub(super) const CASES: &[Case] = &[
    ("ml.Binarizer", "N,3", "", "N,3"),
    ("ml.Binarizer", "[N]", "", "mixes computes with the number"),
    ("ml.LabelEncoder", "T,N", "", "T,N"),
    ("ml.LabelEncoder", "[N]", "", "mixes"),
    ("ml.CategoryMapper", "N,1", "", "N,1"),
    ("ml.CategoryMapper", "[N]", "", "mixes"),
    ("ml.Scaler", "N,3", "", "N,3"),
    ("ml.Scaler", "3,N", "", "mixes takes the rows for features"),
    ("ml.Scaler", "N", "", "mixes takes a list for a single row"),
    ("ml.Imputer", "N,3", "", "N,3"),
    ("ml.Imputer", "3,N", "", "mixes"),
    ("ml.Normalizer", "N,3", "", "N,3"),
    ("ml.Normalizer", "N", "", "mixes takes a list for a single row"),
    ("ml.LinearClassifier", "N,3", "results=2", "N;N,?"),
    ("ml.LinearClassifier", "3,N", "", "mixes"),
    ("ml.SVMClassifier", "N,3", "results=2", "N;N,?"),
    ("ml.SVMClassifier", "N", "", "mixes"),
    ("ml.TreeEnsembleClassifier", "N,3", "results=2", "N;N,?"),
    ("ml.TreeEnsembleClassifier", "3,N", "", "mixes"),
    ("ml.LinearRegressor", "N,3", "", "N,?"),
    ("ml.LinearRegressor", "3,N", "", "mixes"),
    ("ml.SVMRegressor", "N,3", "", "N,?"),
    ("ml.SVMRegressor", "3,N", "", "mixes"),
    ("ml.TreeEnsembleRegressor", "N,3", "", "N,?"),
    ("ml.TreeEnsembleRegressor", "N,3,1", "", "mixes"),
    ("ml.TreeEnsemble", "N,3", "", "N,?"),
    ("ml.TreeEnsemble", "N", "", "mixes"),
    ("ml.ArrayFeatureExtractor", "N,9;[0,2]", "", "N,2"),
    ("ml.ArrayFeatureExtractor", "N,9;1,T", "", "N,T"),
    ("ml.ArrayFeatureExtractor", "9;N", "", "1,N"),
    ("ml.ArrayFeatureExtractor", "9;1,N", "", "1,N"),
    ("ml.ArrayFeatureExtractor", "9;N,2", "", "1,2*N"),
    ("ml.ArrayFeatureExtractor", "T,9;2", "", "?"),
    ("ml.ArrayFeatureExtractor", "3,N;2", "", "mixes picks rows"),
    ("ml.ArrayFeatureExtractor", "9;2,N", "", "unknown its indices"),
    ("ml.ArrayFeatureExtractor", "2,9;N", "", "unknown its indices"),
    ("ml.ArrayFeatureExtractor", "N,9;N", "", "unknown its indices"),
    ("ml.FeatureVectorizer", "N,3;N,2", "", "N,?"),
    ("ml.FeatureVectorizer", "N,3;1,2", "", "unknown its operands"),
    ("ml.FeatureVectorizer", "N,3;2*N,2", "", "unknown its operands"),
    ("ml.FeatureVectorizer", "3,N;3,N", "", "unknown its operands"),
    ("ml.FeatureVectorizer", "N;N", "", "unknown its operands"),
    ("ml.OneHotEncoder", "N,1", "cats_int64s=[1,2,3]", "N,1,3"),
    ("ml.OneHotEncoder", "N", "cats_strings=['a','b']", "N,2"),
    ("ml.OneHotEncoder", "N", "", "N,?"),
    ("ml.OneHotEncoder", "[N]", "", "mixes"),
];

#[test]
fn tables_have_rows_in_front() {
    check(CASES);
}
