"""How compute becomes accuracy: training compute, serial thinking and parallel samples on one scale.

Floats and arrays in, arrays out; no hardware, no simulated time. Every number has a default, a range, evidence
and a source. What the model is and where it fails: docs/background/quality.md.

    s = solver(load_trained_model("deepseek-r1"), load_benchmark("aime24"))           solver.py
    s.mean_accuracy(tokens, effective_flops=flops)            accuracy of one sample, any shape
    s.tokens_for(0.85)                                        its inverse
    vote(s.mean_accuracy(), 64, nu, t); coverage; verified    what k samples give      parallel.py
    estimate(s, lambda s: s.mean_accuracy(tokens))            Accuracy: mean, low, high, anchored, evidence, note
    draw_solvers(s)                                           the draws behind the band; share them between policies

For a simulation, n problems at once; `s.success()` gives the same chances for one task at a time (success.py):

    problems = s.draw_problems(rng, n)                        difficulty (0 to 1), success
    natural = s.draw_tokens(rng, problems.difficulty)         how long each sample would think
    p = s.success_probability(problems.difficulty, used, natural)    right, after the tokens it really used

Training: `scaling.py` (loss, optimum, effective compute), `data.py` (when text runs out), `overtraining.py` (the
model that is cheapest to train and serve), `exchange.py` (inference for training). Two modes (`MODES`) disagree on
what training beyond today's buys; report both. `checks.py` holds everything against published points.
"""
