"""Measurement of a cluster with Ray: links between nodes, collectives, and every device at once.

    nodes        which nodes and accelerators there are, their names and their order
    task         what is measured at one moment, and the loop that times it
    ranks        one actor an accelerator, a torch.distributed group in them, and their ends
    pairs        messages between two ranks: round-robin rounds, each pair alone, then all together
    collectives  all_reduce, all_gather, reduce_scatter, all_to_all and barrier over groups of ranks
    node_sweep   benchmarks of one device on all devices at once; stragglers
    driver       works through the tasks, survives hangs and deaths, goes on where a run was cut
    run          the entry: connect, measure, write
    segments     lines through the medians of sizes (calibrate.linkfit fits links with them)
    result       links and collectives fitted, what is missing, cluster.yaml

The driver imports ray and no torch; the ranks import torch. Both lazily.
"""
