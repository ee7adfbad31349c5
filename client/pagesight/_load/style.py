"""The style sheet of report.html; its colours are those of the report of `evaluate`."""

STYLE = """
:root {
  --ground: #f4f6f8; --card: #ffffff; --ink: #1b1f24; --soft: #59636e; --line: #dfe4ea;
  --first: #2a66a8; --second: #b9591c; --good: #1d7a4c; --bad: #bf3328;
  --good-tint: #e3f3ea; --bad-tint: #fbe9e7; --warn-tint: #fdf2dc; --warn: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #121518; --card: #1b1f24; --ink: #e6e9ed; --soft: #9aa5b1; --line: #30373f;
    --first: #79b0ec; --second: #ee9a5f; --good: #62c893; --bad: #f4867b;
    --good-tint: #17332a; --bad-tint: #3d2321; --warn-tint: #3a2f17; --warn: #ecc36a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 1040px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 6px; }
p { margin: 0 0 12px; }
.soft, .how { color: var(--soft); }
.how { max-width: 78ch; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 16px; }
.scroll { overflow-x: auto; }
.below { margin-top: 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px;
  margin-top: 18px; }
.tile b { display: block; font-size: 25px; line-height: 1.25; font-weight: 620;
  font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: 13px; color: var(--soft); }
.tile .name { color: var(--ink); font-weight: 550; }
.warnings { background: var(--warn-tint); border-radius: 10px; padding: 12px 16px 12px 34px;
  margin: 16px 0 0; border-left: 4px solid var(--warn); }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.text th, .text td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.last td:last-child { text-align: left; white-space: normal; min-width: 210px; }
.last .badge { white-space: normal; }
td { font-variant-numeric: tabular-nums; border-top: 1px solid var(--line); }
tbody tr:first-child td { border-top-color: var(--line); }
th { font-weight: 550; color: var(--soft); font-size: 13px; }
.badge { display: inline-block; border-radius: 6px; padding: 1px 8px; font-weight: 600;
  font-size: 13px; }
.badge.good { background: var(--good-tint); color: var(--good); }
.badge.bad { background: var(--bad-tint); color: var(--bad); }
.badge.warn { background: var(--warn-tint); color: var(--warn); }
svg { display: block; width: 100%; min-width: 560px; height: auto; stroke-linejoin: round; }
"""
