"""Each mistake of a user: exit code 2, one line that names the thing and the remedy, no traceback."""

import re

import numpy as np
import pytest

FIT = ["--out", "RUN", "--set", "latent_dim=2", "--quiet"]
CASES = {
    "unknown command": (["fti"], r"No such command 'fti'\. Did you mean 'fit'"),
    "unknown option": (["fit", "vae", "--dta", "ROWS"], r"No such option: --dta"),
    "no data": (["fit", "vae", *FIT], r"Missing option '--data'"),
    "bad number": (["fit", "vae", "--data", "ROWS", *FIT, "--epochs", "many"], r"'--epochs'"),
    "bad choice": (["fit", "vae", "--data", "ROWS", *FIT, "--split", "valid"], r"'--split'"),
    "unknown model": (["fit", "vea", "--data", "ROWS", *FIT], r"no program 'vea'.*Did you mean 'vae'"),
    "unknown data": (["fit", "vae", "--data", "digit", *FIT], r"no data set 'digit'.*Did you mean 'digits'"),
    "missing file": (["fit", "vae", "--data", "DIR/raws.npy", *FIT], r"no file or folder .*Did you mean .*rows\.npy"),
    "unknown model option": (["fit", "vae", "--data", "ROWS", *FIT, "--set", "latent=2"], r"'latent'.*'latent_dim'"),
    "missing model option": (["fit", "vae", "--data", "ROWS", "--out", "RUN"], r"needs latent_dim"),
    "setting without value": (["fit", "vae", "--data", "ROWS", *FIT, "--set", "hidden"], r"--set latent_dim=16"),
    "unknown guide": (["fit", "vae", "--data", "ROWS", *FIT, "--guide", "AutoNorm"], r"Did you mean 'AutoNormal'"),
    "epochs and steps": (
        ["fit", "vae", "--data", "ROWS", *FIT, "--epochs", "1", "--steps", "1"],
        r"epochs=1.*steps=1.*Remedy",
    ),
    "strategy of shards": (["fit", "vae", "--data", "ROWS", *FIT, "--strategy", "fsdp"], r"Remedy: strategy='ddp'"),
    "images of a file": (["fit", "vae", "--data", "ROWS", *FIT, "--images"], r"serve digits and IDX folders"),
    "needs data": (["show", "linear_regression", "--set", "num_features=2"], r"is called with x.*add --data"),
    "no run": (["infer", "DIR", "--data", "ROWS", "--out", "OUT"], r"holds no run"),
    "no such run": (["sample", "DIR/nowhere", "--out", "OUT"], r"nowhere holds no run"),
    "no such program file": (["show", "DIR/nofile.py:Thing"], r"no file '.*nofile\.py'"),
    "no class": (["show", "OWN"], r"names no class\. Remedy: write .*own\.py:Class"),
    "wrong class": (["show", "OWN:Factor"], r"no class 'Factor' in .*Did you mean 'Factors'\? Known: 'Factors'\."),
    "unknown own option": (["show", "OWN:Factors", "--set", "widht=3"], r"no option 'widht'.*Did you mean 'width'"),
    "missing own option": (["show", "OWN:Factors"], r"needs width\. Remedy: add --set width=\.\.\."),
    "file that fails": (["show", "DIR/failing.py:Thing"], r"failing\.py' does not run: line 2, ZeroDivisionError"),
    "file with bad syntax": (["show", "DIR/syntax.py:Thing"], r"syntax\.py' does not run: SyntaxError.*line 1"),
    "not a run of that program": (["sample", "VAE", "--out", "OUT", "--model", "OWN:Factors"], r"no option 'data_dim'"),
    "wrong columns": (["infer", "VAE", "--data", "DIR/wide.npy", "--out", "OUT", "-q"], r"shape \(9,\).*shape \(6,\)"),
    "no samples": (["sample", "VAE", "-n", "0", "--out", "OUT"], r"at least 1, got 0"),
    "out is taken": (["fit", "vae", "--data", "ROWS", "--out", "VAE", "--set", "latent_dim=2"], r"is not empty"),
    "out is a file": (
        ["fit", "vae", "--data", "ROWS", "--out", "ROWS", "--set", "latent_dim=2"],
        r"rows\.npy.*Remedy: .*another",
    ),
    "out under a file": (["sample", "VAE", "--out", "ROWS/samples.npz"], r"rows\.npy"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_with_its_remedy(ppl, run, rows, own_program, tmp_path, case):
    np.save(tmp_path / "rows.npy", np.load(rows))
    np.save(tmp_path / "wide.npy", np.ones((4, 9), dtype=np.float32))
    (tmp_path / "failing.py").write_text("one = 1\ntwo = one / 0\n")
    (tmp_path / "syntax.py").write_text("class Thing(:\n")
    places = {"ROWS": tmp_path / "rows.npy", "RUN": tmp_path / "run", "OUT": tmp_path / "out"}
    places |= {"OWN": own_program, "VAE": run, "DIR": tmp_path}
    args, message = CASES[case]
    for name, path in places.items():
        args = [arg.replace(name, str(path)) if arg.startswith(name) else arg for arg in args]
    error = ppl(*args, code=2).stderr
    assert error.startswith("ppl-genmodels: ")
    assert re.search(message, error), error
    assert not (tmp_path / "out").exists()
