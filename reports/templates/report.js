// Optional: hover, filter, open all. Without it (or under a policy that refuses it) the page is complete.
// It only reads what the page holds, and writes text, never markup.
(() => {
  "use strict";
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const made = (tag, text, kind) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  // --- claims by their verdict ---------------------------------------------------------------------------------------

  const chips = document.querySelector(".chips");
  const rows = chips ? all("li", chips) : [];
  if (rows.length > 1) {
    const answerOf = element => ["fail", "unknown", "pass"].find(answer => element.querySelector(".chip." + answer));
    const tools = made("div", "", "tools");
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", "Claims shown");
    const show = answer => {
      for (const element of [...rows, ...all(".claim")]) element.hidden = answer !== "all" && answerOf(element) !== answer;
      for (const button of all("button", tools)) button.setAttribute("aria-pressed", String(button.value === answer));
    };
    for (const [answer, mark] of [["all", ""], ["fail", "✕ "], ["unknown", "? "], ["pass", "✓ "]]) {
      const count = answer === "all" ? rows.length : rows.filter(row => answerOf(row) === answer).length;
      if (!count) continue;
      const button = made("button", mark + answer + " " + count);
      button.type = "button";
      button.value = answer;
      button.addEventListener("click", () => show(answer));
      tools.append(button);
    }
    if (tools.children.length > 2) {
      chips.before(tools);
      show("all");
    }
  }

  // --- rows of long tables -------------------------------------------------------------------------------------------

  const FEWEST_ROWS = 12;
  for (const table of all("table")) {
    const body = all("tbody tr", table);
    if (body.length < FEWEST_ROWS) continue;
    const box = table.closest(".scroll");
    const label = made("label", "Rows with ", "filter");
    const input = made("input");
    const count = made("span", body.length + " rows");
    input.type = "search";
    count.setAttribute("role", "status");
    label.append(input);
    const line = made("p", "", "tools");
    line.append(label, " ", count);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const row of body) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      count.textContent = shown === body.length ? body.length + " rows" : shown + " of " + body.length + " rows";
    });
    box.before(line);
  }

  // --- everything open -----------------------------------------------------------------------------------------------

  const folded = all("details");
  const nav = document.querySelector("nav");
  if (nav && folded.length) {
    const button = made("button", "Open all tables");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-pressed") !== "true";
      for (const each of folded) each.open = open;
      button.setAttribute("aria-pressed", String(open));
      button.textContent = open ? "Close all tables" : "Open all tables";
    });
    nav.append(button);
  }

  // --- one moment in all charts over time ----------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";
  const charts = all("svg[data-from]").map(svg => {
    const [from, to, start, end] = ["from", "to", "start", "end"].map(name => Number(svg.dataset[name]));
    const line = document.createElementNS(SVG, "line");
    for (const [name, value] of [["y1", "0"], ["y2", "100%"], ["stroke", "currentColor"], ["visibility", "hidden"]])
      line.setAttribute(name, value);
    svg.append(line);
    const readout = made("p", "", "readout");
    readout.setAttribute("aria-hidden", "true");
    svg.after(readout);
    const table = svg.closest("figure").querySelector("table");
    const heads = table ? all("thead th", table).map(cell => cell.textContent) : [];
    return { svg, from, to, start, end, line, readout, table, heads };
  });
  const number = text => Number(text.replaceAll(",", ""));
  const rowsAt = (chart, at) => {
    const first = chart.heads.indexOf("from, s");
    if (first < 0) return [];
    const last = chart.heads.indexOf("to, s");
    const found = all("tbody tr", chart.table).map(row => all("th, td", row).map(cell => cell.textContent));
    return found.filter((cells, index) => {
      const next = found[index + 1];
      const until = last < 0 ? (next ? number(next[first]) : Infinity) : number(cells[last]);
      return number(cells[first]) <= at && (at < until || Number.isNaN(until));
    });
  };
  const point = (at, of) => {
    for (const chart of charts) {
      const inside = at !== null && at >= chart.from && at <= chart.to;
      chart.line.setAttribute("visibility", inside ? "visible" : "hidden");
      chart.readout.textContent = "";
      if (!inside) continue;
      const x = chart.start + ((at - chart.from) / (chart.to - chart.from)) * (chart.end - chart.start);
      chart.line.setAttribute("x1", x / 10 + "%");
      chart.line.setAttribute("x2", x / 10 + "%");
      if (chart !== of) continue;
      const told = rowsAt(chart, at).slice(0, 4).map(cells =>
        cells.map((cell, index) => [chart.heads[index], cell])
          .filter(([head]) => head && head !== "from, s" && head !== "to, s")
          .map(([head, cell]) => head + " " + cell).join(", "));
      chart.readout.textContent = [at.toFixed(1) + " s", ...told].join(" · ");
    }
  };
  for (const chart of charts) {
    chart.svg.addEventListener("pointermove", event => {
      const box = chart.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * 1000;
      const at = chart.from + ((x - chart.start) / (chart.end - chart.start)) * (chart.to - chart.from);
      point(Math.min(Math.max(at, chart.from), chart.to), chart);
    });
    chart.svg.addEventListener("pointerleave", () => point(null));
  }
})();
