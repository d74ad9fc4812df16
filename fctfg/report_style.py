"""The style sheet of reports, light and dark."""

STYLE = """
:root { color-scheme: light dark; --page: #f7f7f5; --card: #ffffff; --ink: #1d1f23; --quiet: #646973; --rule: #e2e2de;
  --accent: #2f6f8f; --warn: #fff3d6; --warn-ink: #5b4300;
  --series-0: #2f6f8f; --series-1: #d2691e; --series-2: #5f8f3f; --series-3: #8a5fa8; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1e2125; --ink: #e9e9e6; --quiet: #9aa0aa;
  --rule: #33373d; --accent: #6fb3d2; --warn: #3a2f12; --warn-ink: #f3dfa8;
  --series-0: #6fb3d2; --series-1: #f0975a; --series-2: #9cc77a; --series-3: #c3a0dd; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
header, main { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 2.5rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 0 0 .8rem; }
h3 { font-size: .9rem; margin: 0 0 .3rem; display: flex; flex-wrap: wrap; gap: .2rem .9rem; align-items: baseline; }
h3 span { font-weight: 400; color: var(--quiet); font-size: .8rem; }
h3 span::before { content: ""; display: inline-block; width: .8em; height: .2em; margin-right: .35em;
  vertical-align: middle; background: var(--line); }
p { margin: 0 0 .9rem; max-width: 46rem; }
.lead { color: var(--quiet); font-size: 1.08rem; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 1.2rem;
  margin: 1.2rem 0; }
.notice { background: var(--warn); color: var(--warn-ink); border-radius: 8px; padding: .8rem 1rem; max-width: none; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .8rem; margin: 0 0 1rem; }
.facts div { border: 1px solid var(--rule); border-radius: 8px; padding: .7rem .9rem; }
.facts b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.facts span { color: var(--quiet); font-size: .85rem; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; min-width: 60%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); font-size: .9rem; padding-bottom: .4rem; }
th, td { padding: .35rem .9rem .35rem 0; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; font-size: .85rem; color: var(--quiet); }
th:first-child, td:first-child, .words { text-align: left; }
td:not(:first-child, .words) { white-space: nowrap; }
.timeline, .bars { list-style: none; margin: 0 0 1rem; padding: 0; }
.timeline li, .bars li { display: grid; grid-template-columns: 1fr auto; gap: .1rem 1rem; padding: .3rem 0; }
.timeline time, .bars time { color: var(--quiet); font-variant-numeric: tabular-nums; }
.timeline i, .bars i { grid-column: 1 / -1; height: 6px; min-width: 2px; border-radius: 3px;
  background: var(--accent); }
figure { margin: 0 0 1rem; }
figure img, figure video { display: block; width: 100%; height: auto; border-radius: 8px; background: #000; }
figcaption { color: var(--quiet); font-size: .88rem; margin-top: .35rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.gallery.columns { grid-template-columns: repeat(auto-fill, minmax(min(100%, var(--column)), 1fr));
  margin-bottom: 1rem; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); gap: .4rem 1.4rem; }
.curve { max-width: 34rem; }
figure.wide { grid-column: 1 / -1; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font: 10px system-ui, sans-serif; fill: var(--quiet); }
.chart .grid { stroke: var(--rule); stroke-width: 1; }
.chart polyline { fill: none; stroke: var(--line); stroke-linejoin: round; }
.chart .line { stroke-width: 1.8; }
.chart .raw { stroke-width: .8; opacity: .3; }
.chart .dot { fill: var(--line); }
.chart .all { fill: var(--page); stroke: var(--quiet); stroke-width: .6; }
.chart .chosen { fill: var(--accent); }
.chart .limit { stroke: var(--series-1); stroke-width: 1.6; stroke-dasharray: 4 3; }
.chart .cell { fill: var(--accent); stroke: var(--rule); stroke-width: .5; }
.heat text { font-size: 8px; }
.heat .on { fill: var(--card); }
.heat .off { fill: var(--ink); }
.key { font-size: .88rem; }
.key i { display: inline-block; width: 1.1em; height: .8em; margin: 0 .35em 0 .9em; vertical-align: -.05em; }
.key .all { background: var(--page); border: 1px solid var(--quiet); }
.key .chosen { background: var(--accent); }
.key .limit { height: 0; border-top: 2px dashed var(--series-1); vertical-align: .25em; }
.bars span { overflow-wrap: anywhere; }
figcaption, summary { overflow-wrap: anywhere; }
td { overflow-wrap: break-word; }
details { color: var(--quiet); font-size: .85rem; margin-top: .2rem; }
summary { cursor: pointer; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .05rem .8rem; margin: .3rem 0; }
dd { margin: 0; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h3 small { font-weight: 400; color: var(--quiet); }
h3.line { display: block; font-size: 1rem; margin: 1.1rem 0 .5rem; }
"""
