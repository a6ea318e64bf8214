"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const main = document.getElementById("main");
  main.textContent = "";
  const PALETTE = ["#0b8f6a", "#d9731a", "#4a6cf0", "#b3399b", "#c9a400", "#2aa7c9", "#8a5cf0", "#c23b3b"];
  const GREY = "#98a1ae";
  const row = (name) => data.rows.find((each) => each.router === name);
  const ours = row("default"), best = row("best-single"), oracle = row("query-oracle");
  const several = data.tasks.length > 1;
  const pct = (value, digits = 1) => value === null || value === undefined ? "–" : (100 * value).toFixed(digits);
  const signed = (value, digits = 2) => (value >= 0 ? "+" : "−") + Math.abs(100 * value).toFixed(digits);
  const money = (value) => value >= 100 ? value.toFixed(0) : String(+value.toPrecision(3));
  const COST = {
    usd: ["USD per 1,000 queries", (c) => money(1000 * c)], "parameter-tokens": ["billion parameters × million tokens, per 1,000 queries", (c) => money(1000 * c)],
    tokens: ["tokens per query", (c) => money(c)], none: ["cost", () => "–"],
  }[data.cost_unit];

  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function svg(tag, attributes = {}, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function section(title, hint, ...content) {
    return el("section", {}, el("h2", {}, title), hint ? el("p", { class: "hint" }, hint) : null, ...content);
  }

  // Experts by how often the default asks them: the busiest have colours of their own.
  const load = new Map(data.experts.map((name) => [name, 0]));
  for (const task of data.assignments) for (const [name, share] of Object.entries(task.shares)) load.set(name, load.get(name) + share * task.n);
  const busiest = [...load.keys()].sort((a, b) => load.get(b) - load.get(a));
  const asked = busiest.filter((name) => load.get(name) > 0);
  const colour = new Map(busiest.map((name, i) => [name, i < PALETTE.length ? PALETTE[i] : GREY]));
  const shown = asked.slice(0, PALETTE.length);

  function frame(width, height, margin, x, y, names) {
    const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": names.label });
    const right = width - margin.right, bottom = height - margin.bottom;
    for (const value of y.ticks) {
      const at = y.at(value);
      root.append(svg("line", { x1: margin.left, x2: right, y1: at, y2: at, class: "grid" }),
        svg("text", { x: margin.left - 8, y: at + 4, "text-anchor": "end" }, y.text(value)));
    }
    for (const value of x.ticks) root.append(svg("text", { x: x.at(value), y: bottom + 18, "text-anchor": "middle" }, x.text(value)));
    root.append(svg("line", { x1: margin.left, x2: right, y1: bottom, y2: bottom, class: "axis" }),
      svg("text", { x: (margin.left + right) / 2, y: height - 6, "text-anchor": "middle" }, names.x),
      svg("text", { x: margin.left - 8, y: margin.top - 12, "text-anchor": "start" }, names.y));
    return root;
  }
  function scale(low, high, from, to, log = false) {
    const map = log ? Math.log : (v) => v;
    const a = map(low), b = map(high);
    return (value) => from + (to - from) * (b > a ? (map(value) - a) / (b - a) : 0.5);
  }
  function ticks(low, high, count = 5) {
    const raw = (high - low || 1) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const out = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) out.push(v);
    return out;
  }
  function logTicks(low, high) {
    const within = (steps) => {
      const out = [];
      for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
        for (const m of steps) if (m * 10 ** p >= low * 0.999 && m * 10 ** p <= high * 1.001) out.push(m * 10 ** p);
      return out;
    };
    return [[1], [1, 3], [1, 2, 5], [1, 2, 3, 4, 5, 6, 8]].map(within).find((out) => out.length >= 4) || within([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  }
  const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

  // ---- head
  const versus = ours.vs_best_single;
  const surely = versus.ci95[0] > 0 ? "good" : versus.ci95[1] < 0 ? "bad" : "";
  const toggle = el("button", { type: "button" }, "light / dark");
  toggle.addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
  main.append(el("header", {}, el("div", {}, el("h1", {}, `Routing on ${data.dataset}`),
    el("p", { class: "lead" }, `${data.n.toLocaleString("en")} test queries${several ? ` of ${data.tasks.length} tasks` : ""}, ${data.experts.length} experts. `
      + `Fitted on ${data.n_fit.toLocaleString("en")} other queries with measured outcomes; every decision was made by the gateway's own code, which sees the text and no task label.`)), toggle));
  const fact = (value, words, kind = "") => el("div", { class: "fact" }, el("b", { class: kind }, value), el("span", {}, words));
  const relative = best.cost > 0 ? ours.cost / best.cost : null;
  main.append(el("div", { class: "cards" },
    fact(pct(ours.quality_macro), `quality of the default${several ? ", mean over tasks" : ""} (95 %: ${pct(ours.ci95[0])} to ${pct(ours.ci95[1])})`),
    fact(signed(versus.difference), `points against always ${versus.expert} (95 %: ${signed(versus.ci95[0], 1)} to ${signed(versus.ci95[1], 1)})`, surely),
    fact(ours.oracle_gap_closed === null ? "–" : `${pct(ours.oracle_gap_closed, 0)} %`, "of the way from the best single expert to an oracle that knows every score"),
    relative === null ? fact(pct(best.quality_macro), "quality of the best single expert") : fact(`${relative.toFixed(2)}×`, "its cost beside the best single expert's")));

  // ---- cost and quality
  function costCurve() {
    const curve = data.curves.default || [];
    const singles = (data.curves.experts || []).filter((each) => each.quality_macro !== null);
    const useful = data.cost_unit !== "none" && data.rows.some((each) => each.cost > 0);
    if (!useful) return null;
    const dots = singles.length ? singles : data.rows.filter((each) => each.kind === "single").map((each) => ({ expert: each.router.slice(7), cost: each.cost, quality_macro: each.quality_macro }));
    const every = [...dots, ...curve, ours, best, oracle];
    const costs = every.map((each) => each.cost).filter((c) => c > 0), heights = every.map((each) => each.quality_macro);
    const low = Math.min(...costs) / 1.15, high = Math.max(...costs) * 1.15;
    const span = Math.max(...heights) - Math.min(...heights) || 0.1;
    const bottom = Math.min(...heights) - 0.08 * span, top = Math.max(...heights) + 0.08 * span;
    const margin = { left: 46, right: 24, top: 30, bottom: 44 }, width = 980, height = 430;
    const x = { at: scale(low, high, margin.left, width - margin.right, true), ticks: logTicks(low, high), text: COST[1] };
    if (data.cost_unit !== "tokens") x.ticks = logTicks(low * 1000, high * 1000).map((v) => v / 1000);
    const y = { at: scale(bottom, top, height - margin.bottom, margin.top), ticks: ticks(bottom, top), text: (v) => pct(v, 0) };
    const root = frame(width, height, margin, x, y, { label: "Quality against cost", x: COST[0] + ", log scale", y: "quality, %" });
    const place = (each) => [x.at(Math.max(each.cost, low)), y.at(each.quality_macro)];
    const line = (level, style, text) => root.append(
      svg("line", { x1: margin.left, x2: width - margin.right, y1: y.at(level), y2: y.at(level), stroke: `var(${style})`, "stroke-dasharray": "3 5" }),
      svg("text", { x: width - margin.right, y: y.at(level) - 6, "text-anchor": "end", style: `fill: var(${style})` }, text));
    line(oracle.quality_macro, "--oracle", `query oracle ${pct(oracle.quality_macro)}`);
    line(best.quality_macro, "--best", `best single expert, ${versus.expert}: ${pct(best.quality_macro)}`);
    const mixes = (data.curves.zero_router || []).map((each) => [x.at(each.cost), y.at(each.quality)]);
    if (mixes.length > 1) root.append(svg("path", { d: path(mixes), fill: "none", stroke: GREY, "stroke-width": 1.5, "stroke-dasharray": "2 4" }));
    if (curve.length) root.append(svg("path", { d: path([...curve].sort((a, b) => a.cost - b.cost).map(place)), fill: "none", stroke: "var(--ours)", "stroke-width": 2.5, "stroke-linejoin": "round" }));
    for (const each of curve) {
      const [cx, cy] = place(each);
      root.append(svg("circle", { cx, cy, r: 3.5, fill: "var(--ours)" }, svg("title", {}, `lambda ${each.lambda.toFixed(3)}: ${pct(each.quality_macro)} % at ${COST[1](each.cost)}`)));
    }
    const taken = [];
    const clear = (left, right, at) => taken.every(([l, r, t]) => right < l || left > r || Math.abs(t - at) > 12);
    for (const each of [...dots].sort((a, b) => b.quality_macro - a.quality_macro)) {
      const [cx, cy] = place(each);
      root.append(svg("circle", { cx, cy, r: 4.5, fill: colour.get(each.expert) || GREY, stroke: "var(--card)" }, svg("title", {}, `${each.expert}: ${pct(each.quality_macro)} % at ${COST[1](each.cost)}`)));
      const length = each.expert.length * 6.4, end = cx + 9 + length > width - margin.right;
      const left = end ? cx - 9 - length : cx + 9;
      if (each.expert !== versus.expert && clear(left, left + length, cy)) {
        taken.push([left, left + length, cy]);
        root.append(svg("text", { x: end ? cx - 9 : cx + 9, y: cy + 4, "text-anchor": end ? "end" : "start" }, each.expert));
      }
    }
    const [ox, oy] = place(ours);
    const crowded = Math.abs(oy - 14 - (y.at(best.quality_macro) - 6)) < 16;
    root.append(svg("circle", { cx: ox, cy: oy, r: 8, fill: "var(--ours)", stroke: "var(--card)", "stroke-width": 2 }),
      svg("text", { x: ox, y: crowded ? oy + 24 : oy - 14, "text-anchor": "middle", class: "label", "font-weight": 600, style: "font-size: 13px" }, `default ${pct(ours.quality_macro)}`));
    const [qx, qy] = place(oracle);
    root.append(svg("path", { d: `M${qx} ${qy - 7}l7 7l-7 7l-7-7z`, fill: "var(--oracle)" }, svg("title", {}, "query oracle")));
    const found = data.curves.aiq;
    return section("Quality against cost", "Small dots are single experts, always asked." + (curve.length
      ? " The green line is the default router as cost is given more weight; the dashed grey line is what mixing experts at random reaches."
      : " No prices are known for all of them, so the router was told of no cost to weigh.")
      + (found && found.default !== null ? ` Average quality over the span (AIQ): ${pct(found.default)} against ${pct(found.zero_router)} for the mix.` : ""), root);
  }

  // ---- table
  function headline() {
    const all = data.rows.flatMap((each) => each.ci95).filter((v) => v !== null);
    const at = scale(Math.min(...all), Math.max(...all), 4, 176);
    const head = el("tr", {}, ...["router", several ? "quality (macro)" : "quality", "95 %", several ? "micro" : null, data.cost_unit === "none" ? null : "cost",
      "gap closed", "vs best single", "won / lost", "p"].filter((each) => each !== null).map((each) => el("th", {}, each)));
    const order = { default: 0, estimator: 1, baseline: 2, oracle: 3, single: 4 };
    const rows = data.rows.map((each, i) => [each, i]).sort(([a, i], [b, j]) => order[a.kind] - order[b.kind] || (a.kind === "single" ? b.quality_macro - a.quality_macro : i - j));
    const body = rows.map(([each]) => {
      const colours = { default: "var(--ours)", oracle: "var(--oracle)", single: GREY, estimator: "var(--ink)", baseline: "var(--best)" };
      const mark = svg("svg", { viewBox: "0 0 180 18" },
        svg("line", { x1: at(best.quality_macro), x2: at(best.quality_macro), y1: 0, y2: 18, stroke: "var(--best)", "stroke-dasharray": "2 3", opacity: .6 }),
        svg("line", { x1: at(each.ci95[0]), x2: at(each.ci95[1]), y1: 9, y2: 9, stroke: colours[each.kind], "stroke-width": 2, opacity: .45 }),
        svg("circle", { cx: at(each.quality_macro), cy: 9, r: 4, fill: colours[each.kind] }));
      const v = each.vs_best_single, self = each.router === "best-single";
      const cells = [el("td", { title: each.what + (each.unmeasured ? `; ${each.unmeasured} of its choices were never measured and are left out` : "") }, each.router.replace(/^(expert|estimator):/, "") + (each.unmeasured ? " *" : "")), el("td", {}, pct(each.quality_macro, 2)), el("td", { class: "whisker", title: `${pct(each.ci95[0])} to ${pct(each.ci95[1])}` }, mark)];
      if (several) cells.push(el("td", {}, pct(each.quality_micro, 2)));
      if (data.cost_unit !== "none") cells.push(el("td", {}, COST[1](each.cost)));
      cells.push(el("td", {}, each.oracle_gap_closed === null ? "–" : `${pct(each.oracle_gap_closed, 0)} %`),
        el("td", { class: self ? "" : v.ci95[0] > 0 ? "good" : v.ci95[1] < 0 ? "bad" : "" }, self ? "" : signed(v.difference)),
        el("td", {}, self ? "" : `${v.wins} / ${v.losses}`), el("td", {}, self ? "" : v.p.toFixed(3)));
      return el("tr", { class: each.kind }, ...cells);
    });
    const folded = body.filter((each) => each.className === "single").slice(8);
    const unfold = folded.length > 2 ? el("button", { type: "button", style: "margin-top: 12px" }, `show ${folded.length} more experts`) : null;
    if (unfold) {
      for (const each of folded) each.hidden = true;
      unfold.addEventListener("click", () => { for (const each of folded) each.hidden = false; unfold.remove(); });
    }
    return section("Every router on the same queries", "Intervals are bootstraps over queries; the dashed line is the best single expert. Hover over a name to see what it is."
      + (data.cost_unit === "none" ? "" : ` Cost: ${COST[0]}.`),
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))), ...(unfold ? [unfold] : []));
  }

  // ---- who gets which task
  function assignments() {
    const rest = asked.length > shown.length;
    const head = el("tr", {}, ...["task", "queries", "default", "best single", "oracle", ...shown, ...(rest ? ["others"] : [])].map((each) => el("th", {}, each.length > 18 ? each.slice(0, 17) + "…" : each)));
    const body = data.assignments.map((task) => {
      const share = (value, tint) => el("td", { class: "share", style: value > 0 ? `background: color-mix(in srgb, ${tint} ${Math.round(8 + 62 * value)}%, transparent)` : "" }, value > 0.0005 ? `${pct(value, value < 0.01 ? 1 : 0)} %` : "");
      const gain = task.quality - task.best_single;
      return el("tr", {}, el("td", {}, task.task || "(none)"), el("td", {}, task.n.toLocaleString("en")),
        el("td", { class: gain > 0.005 ? "good" : gain < -0.005 ? "bad" : "" }, pct(task.quality)), el("td", {}, pct(task.best_single)), el("td", {}, pct(task.oracle)),
        ...shown.map((name) => share(task.shares[name] || 0, colour.get(name))),
        ...(rest ? [share(Object.entries(task.shares).filter(([name]) => !shown.includes(name)).reduce((sum, [, v]) => sum + v, 0), GREY)] : []));
    });
    return section("Who gets which task", "Shares of each task's queries that the default gave to an expert. The task's name was not known to it.",
      el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...body))));
  }

  // ---- reliability
  function calibration() {
    if (!data.reliability) return null;
    const margin = { left: 46, right: 14, top: 30, bottom: 44 }, width = 470, height = 430;
    const at = (low, high) => ({ ticks: [0, .2, .4, .6, .8, 1], text: (v) => pct(v, 0), at: scale(0, 1, low, high) });
    const x = at(margin.left, width - margin.right), y = at(height - margin.bottom, margin.top);
    const root = frame(width, height, margin, x, y, { label: "Reliability", x: "estimated quality, %", y: "measured quality, %" });
    root.append(svg("line", { x1: x.at(0), y1: y.at(0), x2: x.at(1), y2: y.at(1), class: "axis", "stroke-dasharray": "4 4" }));
    const most = Math.max(...data.reliability.all.bins.map((bin) => bin.count));
    for (const bin of data.reliability.all.bins) {
      const tall = 46 * bin.count / most;
      root.append(svg("rect", { x: x.at(bin.low) + 1, width: x.at(bin.high) - x.at(bin.low) - 2, y: y.at(0) - tall, height: tall, fill: "var(--ours)", opacity: .14 }));
    }
    const draw = (found, style, name) => {
      root.append(svg("path", { d: path(found.bins.map((bin) => [x.at(bin.confidence), y.at(bin.outcome)])), fill: "none", stroke: style, "stroke-width": 2 }));
      for (const bin of found.bins) root.append(svg("circle", { cx: x.at(bin.confidence), cy: y.at(bin.outcome), r: 4, fill: style },
        svg("title", {}, `${name}: said ${pct(bin.confidence)} %, came ${pct(bin.outcome)} %, ${bin.count.toLocaleString("en")} estimates`)));
    };
    draw(data.reliability.all, "var(--ours)", "all estimates");
    draw(data.reliability.chosen, "var(--best)", "chosen experts");
    return section("Do the estimates mean what they say?", `Expected calibration error ${pct(data.ece)} % over all estimates, ${pct(data.ece_chosen)} % for the chosen expert. On the diagonal, 70 % means 70 %.`, root,
      el("div", { class: "legend" }, el("span", {}, el("i", { style: "background: var(--ours)" }), "all experts (bars: how many)"), el("span", {}, el("i", { style: "background: var(--best)" }), "the expert that was asked")));
  }

  // ---- map
  function queryMap() {
    if (!data.map.points.length) return null;
    const size = 470, edge = 12;
    const at = scale(-1, 1, edge, size - edge);
    const root = svg("svg", { viewBox: `0 0 ${size} ${size - 40}`, role: "img", "aria-label": "Map of queries" });
    const tall = scale(-1, 1, size - 40 - edge, edge);
    for (const [px, py, seat, quality, task, text] of data.map.points) {
      const name = data.experts[seat];
      root.append(svg("circle", { cx: at(px).toFixed(1), cy: tall(py).toFixed(1), r: 3.2, fill: colour.get(name), opacity: quality !== null && quality < 0.5 ? .3 : .8 },
        svg("title", {}, `${task ? task + " · " : ""}${name}${quality === null ? "" : ` · score ${quality}`}\n${text}`)));
    }
    return section("A map of the queries", `${data.map.points.length.toLocaleString("en")} test queries, placed by their two main directions of meaning (${pct(data.map.explained, 0)} % of it), coloured by the expert asked; pale where it failed. Hover to read.`, root,
      el("div", { class: "legend" }, ...shown.map((name) => el("span", {}, el("i", { style: `background: ${colour.get(name)}` }), name)),
        asked.length > shown.length ? el("span", {}, el("i", { style: `background: ${GREY}` }), `${asked.length - shown.length} others`) : null));
  }

  // ---- strong and weak
  function pairs() {
    if (!data.apgr || !Object.keys(data.apgr.tasks).length) return null;
    const margin = { left: 46, right: 24, top: 30, bottom: 44 }, width = 980, height = 380;
    const x = { ticks: [0, .2, .4, .6, .8, 1], text: (v) => pct(v, 0), at: scale(0, 1, margin.left, width - margin.right) };
    const high = Math.max(1, ...Object.values(data.apgr.tasks).flatMap((each) => each.curve)) * 1.03;
    const low = Math.min(0, ...Object.values(data.apgr.tasks).flatMap((each) => each.curve));
    const y = { ticks: ticks(low, high), text: (v) => pct(v, 0), at: scale(low, high, height - margin.bottom, margin.top) };
    const root = frame(width, height, margin, x, y, { label: "Performance gap recovered", x: `calls to ${data.apgr.strong}, %`, y: "gap recovered, %" });
    root.append(svg("line", { x1: x.at(0), y1: y.at(0), x2: x.at(1), y2: y.at(1), class: "axis", "stroke-dasharray": "4 4" }));
    const names = Object.keys(data.apgr.tasks);
    names.forEach((name, i) => {
      const curve = data.apgr.tasks[name].curve;
      root.append(svg("path", { d: path(curve.map((v, k) => [x.at(k / (curve.length - 1)), y.at(v)])), fill: "none", stroke: PALETTE[i % PALETTE.length], "stroke-width": 2.5 }));
    });
    return section(`${data.apgr.strong} when it pays, ${data.apgr.weak} when it does`, "How much of the gap between the two a share of strong calls recovers (RouteLLM's PGR); the diagonal is random routing.", root,
      el("div", { class: "legend" }, ...names.map((name, i) => {
        const each = data.apgr.tasks[name];
        return el("span", {}, el("i", { style: `background: ${PALETTE[i % PALETTE.length]}` }), `${name}: APGR ${each.apgr.toFixed(3)} (${each.ci95[0].toFixed(3)} to ${each.ci95[1].toFixed(3)}), half the gap with ${pct(each.cpt50, 0)} % strong calls, 80 % with ${pct(each.cpt80, 0)} %`);
      })));
  }

  // ---- mistakes
  function worst() {
    if (!data.mistakes.length) return null;
    return section("Worst mistakes", "Where the default lost most to the best expert of the query, the surest first. Click to read a query whole.", ...data.mistakes.map((each) => el("details", {},
      el("summary", {}, el("span", { class: "text" }, el("span", { class: "tag" }, each.task || each.id), each.text.replace(/\s+/g, " ")),
        el("span", { class: "who" }, `${each.chosen}: expected ${pct(each.estimate, 0)}, scored ${pct(each.score, 0)}`)),
      el("pre", {}, each.text),
      el("p", { class: "hint" }, `${each.right.slice(0, 6).join(", ")}${each.right.length > 6 ? ` and ${each.right.length - 6} more` : ""} scored ${pct(each.top, 0)}; the best single expert ${pct(each.best_single, 0)}. ${each.id}`))));
  }

  const pair = el("div", { class: "two" }, calibration(), queryMap());
  main.append(...[costCurve(), headline(), assignments(), pairs(), pair.childNodes.length ? pair : null, worst()].filter((each) => each));
  const v = data.versions;
  main.append(el("footer", {}, el("p", {}, `Fit ${data.fit_s} s; decisions ${data.decide_us_per_query} µs a query, batched; embedding ${data.embed_s} s for ${data.embedded.toLocaleString("en")} new texts. `
    + `Fitted on ${v.fit.join(" + ")}, judged on ${v.test.join(" + ")}; seed ${v.seed}, ${v.resamples} resamples; encoder ${v.encoder}; consilium ${v.consilium}, numpy ${v.numpy}, faiss ${v.faiss}, Python ${v.python}.`),
    ...data.notes.map((note) => el("p", {}, note)), ...data.skipped.map((each) => el("p", {}, `Skipped ${each.router}: ${each.why}`)),
    data.problems.count ? el("p", {}, `${data.problems.count} bad rows were left out; the first: ${data.problems.first[0]}`) : null));
})();
