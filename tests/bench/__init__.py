"""Benchmarks: what a move costs, as ratios within one run where that is possible. Nothing here can fail on time.

    net       between network namespaces, on this machine's own kernel, no virtual machines
    results   build/bench/results.json, one flat object of numbers that every benchmark merges into
    charts    SVG pictures of them        report    the figures in docs/benchmarks.md

`python -m tests.bench net` measures, `python -m tests.bench report` writes the page.
"""
