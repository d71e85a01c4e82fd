// Sorts, filters, shows intervals and copies. All ranks and sums come from the page; none is computed here.
"use strict";

(() => {
  const form = document.getElementById("filters");
  if (!form) return;
  const status = document.getElementById("status");
  const tip = document.getElementById("tip");
  const choices = document.getElementById("choices");
  const chosen = document.getElementById("chosen");
  const hiddenColumns = new CSSStyleSheet();
  document.adoptedStyleSheets = [hiddenColumns];

  const tables = Array.from(document.querySelectorAll("section.board"), (section) => ({
    section,
    table: section.querySelector("table"),
    heads: Array.from(section.querySelectorAll("thead th")),
    groups: Array.from(section.querySelectorAll("tbody")),
    rows: null,
    sorted: null,
    sortedTogether: false,
    isTogether: false,
  }));
  const aggregates = tables[0].heads.filter((head) => head.dataset.digits !== undefined).length;

  // Reading a thousand rows takes a while, so it waits until something is sorted or filtered.
  function read(table) {
    if (table.rows) return;
    const split = (text) => text.split(";").map((cell) => cell.split(","));
    table.rows = table.groups.flatMap((group) => Array.from(group.querySelectorAll("tr[data-v]"), (element) => {
      const own = split(element.dataset.v);
      const texts = Array.from({ length: aggregates }, (_, place) => element.cells[place + 1].textContent);
      // A cell of these begins with its text.
      const others = element.dataset.t === undefined ? null : split(element.dataset.t);
      const together = others ? others.map((cell) => cell.slice(1)).concat(own.slice(aggregates)) : own;
      const togetherTexts = others ? others.map(([text]) => text) : texts;
      const head = element.cells[0];
      return { element, group, own, together, texts, togetherTexts, name: head.firstElementChild.textContent.toLowerCase(),
        text: head.textContent.toLowerCase() };
    }));
    table.rows.forEach((row, place) => { row.place = place; });
    table.sorted = table.rows;
  }

  // ------------------------------------------------------------------ what the reader asks for

  const DEFAULTS = { protocol: tables[0].section.dataset.protocol, q: "", domain: "", min: "", max: "", since: "",
    complete: "", open: "", together: "", tasks: "", sort: "", order: "" };

  function readAddress() {
    const words = new URLSearchParams(location.search);
    return Object.fromEntries(Object.keys(DEFAULTS).map((key) => [key, words.get(key) ?? DEFAULTS[key]]));
  }

  function writeAddress(state, isTyping) {
    const words = new URLSearchParams();
    for (const [key, value] of Object.entries(state)) if (value !== DEFAULTS[key]) words.set(key, value);
    const query = words.toString();
    const address = location.pathname + (query ? "?" + query : "") + location.hash;
    if (address === location.pathname + location.search + location.hash) return;
    // Every change is a step back, but not every letter that is typed.
    if (isTyping) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
  }

  function find(state) {
    return tables.find((each) => each.section.dataset.protocol === state.protocol) ?? tables[0];
  }

  function columnOf(head) {
    return head.dataset.task ?? head.dataset.column;
  }

  function showForm(state) {
    for (const field of form.elements) {
      if (!field.name || !(field.name in state) || field.name === "protocol") continue;
      if (field.type === "checkbox") field.checked = state[field.name] === "1";
      else field.value = state[field.name];
    }
    if (form.elements.protocol) form.elements.protocol.value = String(tables.indexOf(find(state)) + 1);
    const table = find(state);
    const tasks = table.heads.filter((head) => head.dataset.task);
    if (choices.dataset.table !== table.section.id) {
      choices.dataset.table = table.section.id;
      choices.replaceChildren(...tasks.map((head) => {
        const label = document.createElement("label");
        const box = document.createElement("input");
        box.type = "checkbox";
        box.value = head.dataset.task;
        label.append(box, " " + head.dataset.title);
        return label;
      }));
    }
    const wanted = state.tasks ? state.tasks.split(",") : null;
    for (const box of choices.querySelectorAll("input")) box.checked = !wanted || wanted.includes(box.value);
  }

  function readForm(state) {
    const next = { ...state };
    for (const field of form.elements) {
      if (!field.name || !(field.name in DEFAULTS)) continue;
      if (field.type === "checkbox") next[field.name] = field.checked ? "1" : "";
      else if (field.name === "protocol") next.protocol = tables[Number(field.value) - 1].section.dataset.protocol;
      else next[field.name] = field.value.trim();
    }
    const boxes = Array.from(choices.querySelectorAll("input"));
    const kept = boxes.filter((box) => box.checked);
    next.tasks = kept.length === boxes.length ? "" : kept.map((box) => box.value).join(",") || "none";
    if (next.protocol !== state.protocol) Object.assign(next, { tasks: "", sort: "", order: "" });
    return next;
  }

  // ------------------------------------------------------------------ what is shown

  function show(state) {
    const current = find(state);
    tables.forEach((each) => { each.section.hidden = each !== current; });
    hideTip();
    const isAsPrinted = Object.keys(DEFAULTS).every((key) => key === "protocol" || state[key] === DEFAULTS[key]);
    if (isAsPrinted && !current.rows) {
      hiddenColumns.replaceSync("");
      report(current.table.querySelectorAll("tr[data-v]").length, current, "", "all");
      return;
    }
    read(current);
    const shownTasks = showColumns(current, state);
    const isTogether = state.together === "1" && current.groups.length > 1;
    current.table.classList.toggle("together", isTogether);
    if (current.isTogether !== isTogether) showAggregates(current, isTogether);
    const tasks = current.heads.filter((head) => head.dataset.task).length;
    const areAllShown = shownTasks.length === tasks;
    const count = showRows(current, state, areAllShown ? null : shownTasks);
    sort(current, state, isTogether);
    const part = areAllShown
      ? "" : ` ${shownTasks.length} of ${tasks} tasks are shown; ranks and sums concern all of them.`;
    const origins = isTogether ? " Rows of different origin are ranked together." : "";
    report(count, current, part + origins, areAllShown ? "all" : `${shownTasks.length} of ${tasks}`);
  }

  function report(count, table, remarks, tasks) {
    const all = table.rows ? table.rows.length : count;
    status.textContent = `${count} of ${all} ${all === 1 ? "model" : "models"}.${remarks}`;
    chosen.textContent = tasks;
  }

  function showColumns(table, state) {
    const wanted = state.tasks ? state.tasks.split(",") : null;
    const rules = [];
    const shown = [];
    table.heads.forEach((head, place) => {
      if (!head.dataset.task) return;
      const isShown = (!wanted || wanted.includes(head.dataset.task))
        && (!state.domain || head.dataset.domain === state.domain);
      if (isShown) shown.push(place - 1);
      else rules.push(`#${table.section.id} tr > :nth-child(${place + 1}) { display: none }`);
    });
    hiddenColumns.replaceSync(rules.join("\n"));
    return shown;
  }

  function showAggregates(table, isTogether) {
    table.isTogether = isTogether;
    for (const row of table.rows) {
      const texts = isTogether ? row.togetherTexts : row.texts;
      texts.forEach((text, place) => { row.element.cells[place + 1].textContent = text; });
    }
  }

  function showRows(table, state, shownTasks) {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    const least = state.min === "" ? null : Number(state.min) * 1e6;
    const most = state.max === "" ? null : Number(state.max) * 1e6;
    let count = 0;
    for (const row of table.rows) {
      const parameters = row.own[aggregates][0];
      const date = row.own[aggregates + 1][0];
      const isShown = words.every((word) => row.text.includes(word))
        && (least === null || (parameters !== "" && Number(parameters) >= least))
        && (most === null || (parameters !== "" && Number(parameters) <= most))
        && (!state.since || (date !== "" && date >= state.since))
        && (state.open !== "1" || row.element.dataset.open !== undefined)
        && (state.complete !== "1" || isComplete(row, shownTasks));
      if (row.element.hidden === isShown) row.element.hidden = !isShown;
      count += isShown;
    }
    return count;
  }

  // Of all tasks, those count that ranks are about, and the page knows them: a complete model has a rank.
  function isComplete(row, shownTasks) {
    return shownTasks ? shownTasks.every((place) => row.own[place][0] !== "") : row.own[0][0] !== "";
  }

  function sort(table, state, isTogether) {
    const head = table.heads.find((each) => columnOf(each) === state.sort) ?? table.heads[1];
    const place = table.heads.indexOf(head) - 1;
    const order = state.sort ? state.order || firstOrder(head) : "ascending";
    for (const each of table.heads) {
      if (each === head) each.setAttribute("aria-sort", order);
      else each.removeAttribute("aria-sort");
    }
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => {
      if (place < 0) return row.name;
      const value = (isTogether ? row.together : row.own)[place][0];
      if (value === "") return null;
      return head.classList.contains("date") ? value : Number(value);
    };
    // The page's own order is best first, and serves as long as nothing else is asked for.
    const isOriginal = !state.sort && !isTogether;
    const keyed = table.rows.map((row) => [isOriginal ? 0 : key(row), row]);
    keyed.sort(([one, first], [other, second]) => {
      if (one === null || other === null) return (one === null) - (other === null) || first.place - second.place;
      if (one < other) return -sign;
      if (one > other) return sign;
      return first.place - second.place;
    });
    const wanted = keyed.map(([, row]) => row);
    const isSame = table.sortedTogether === isTogether && wanted.every((row, index) => row === table.sorted[index]);
    if (isSame) return;
    table.sorted = wanted;
    table.sortedTogether = isTogether;
    const bodies = new Map(table.groups.map((group) => [group, document.createDocumentFragment()]));
    for (const row of wanted) bodies.get(isTogether ? table.groups[0] : row.group).append(row.element);
    bodies.forEach((rows, group) => group.append(rows));
  }

  function firstOrder(head) {
    const isLowFirst = head.cellIndex === 0 || head.dataset.column === "rank" || head.dataset.lower !== undefined;
    return isLowFirst ? "ascending" : "descending";
  }

  // ------------------------------------------------------------------ intervals

  function describe(cell) {
    const row = cell.parentElement;
    const table = tables.find((each) => each.table.contains(cell));
    const place = cell.cellIndex - 1;
    if (!table || row.dataset.v === undefined || place < 0) return "";
    const head = table.heads[cell.cellIndex];
    const isTogether = table.table.classList.contains("together") && place < aggregates;
    const together = isTogether && row.dataset.t !== undefined;
    const values = (together ? row.dataset.t : row.dataset.v).split(";")[place].split(",");
    const [value, low, high] = together ? values.slice(1) : values;
    if (value === "" && head.dataset.task === undefined) return "";
    const name = row.cells[0].firstElementChild.textContent;
    const interval = low === undefined ? "" : `, 95 % interval ${low} to ${high}`;
    return `${name} · ${head.dataset.title}: ${cell.textContent || "missing"}${interval}`;
  }

  function showTip(cell) {
    const text = describe(cell);
    if (!text) return hideTip();
    tip.textContent = text;
    tip.hidden = false;
    const box = cell.getBoundingClientRect();
    const size = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(box.left, document.documentElement.clientWidth - size.width - 4))}px`;
    tip.style.top = `${box.top > size.height + 8 ? box.top - size.height - 4 : box.bottom + 4}px`;
  }

  function hideTip() {
    tip.hidden = true;
  }

  // One cell of a table can be reached with Tab, the others from there with the arrow keys.
  function focusCell(cell) {
    const table = cell.closest("table");
    table.querySelectorAll("td[tabindex='0']").forEach((each) => each.setAttribute("tabindex", "-1"));
    cell.setAttribute("tabindex", "0");
    cell.setAttribute("aria-describedby", "tip");
    cell.focus();
  }

  function isShown(cell) {
    return cell && cell.offsetParent !== null;
  }

  function findCell(cell, key) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (step) {
      let next = cell.parentElement.cells[cell.cellIndex + step];
      while (next && !isShown(next)) next = next.parentElement.cells[next.cellIndex + step];
      return next;
    }
    if (key === "Home" || key === "End") {
      const cells = Array.from(cell.parentElement.querySelectorAll("td")).filter(isShown);
      return key === "Home" ? cells[0] : cells[cells.length - 1];
    }
    const rows = Array.from(cell.closest("table").querySelectorAll("tr[data-v]")).filter((row) => !row.hidden);
    const down = { ArrowUp: -1, ArrowDown: 1, PageUp: -10, PageDown: 10 }[key];
    if (!down) return null;
    const target = Math.max(0, Math.min(rows.length - 1, rows.indexOf(cell.parentElement) + down));
    return rows[target].cells[cell.cellIndex];
  }

  function watchCells(table) {
    const isCell = (target) => target.tagName === "TD";
    table.addEventListener("mouseover", (event) => isCell(event.target) && showTip(event.target));
    table.addEventListener("mouseout", hideTip);
    table.addEventListener("click", (event) => isCell(event.target) && focusCell(event.target));
    table.addEventListener("focusin", (event) => isCell(event.target) && showTip(event.target));
    table.addEventListener("focusout", hideTip);
    table.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hideTip();
      if (!isCell(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
      const next = findCell(event.target, event.key);
      if (next && isCell(next)) {
        event.preventDefault();
        focusCell(next);
        showTip(next);
      }
    });
    const first = table.querySelector("tr[data-v] > td");
    if (first) {
      first.setAttribute("tabindex", "0");
      first.setAttribute("aria-describedby", "tip");
    }
    table.parentElement.addEventListener("scroll", hideTip, { passive: true });
  }

  // ------------------------------------------------------------------ copying

  // A spreadsheet would take these for formulas; a negative number is none.
  function makeSafe(text) {
    return /^[=+@\t\r\uff1d\uff0b\uff0d\uff20]|^-(?![\d.]+$)/.test(text) ? "'" + text : text;
  }

  function makeText(table, separator) {
    const quote = (text) => (separator === "," && /[",\n]/.test(text) ? `"${text.replaceAll("\"", "\"\"")}"` : text);
    const shown = table.heads.map((head, place) => (isShown(head) ? place : -1)).filter((place) => place >= 0);
    const lines = [shown.map((place) => table.heads[place].dataset.title)];
    for (const element of table.table.querySelectorAll("tr[data-v]")) {
      if (element.hidden) continue;
      lines.push(shown.map((place) =>
        (place ? element.cells[place] : element.cells[0].firstElementChild).textContent));
    }
    return lines.map((line) =>
      line.map((text) => quote(makeSafe(text.replace(/\s+/g, " ")))).join(separator)).join("\n") + "\n";
  }

  async function copy(separator) {
    const text = makeText(find(readAddress()), separator);
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages that are opened as a file, or without https, have no clipboard.
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    status.textContent = `Copied ${text.split("\n").length - 2} rows.`;
  }

  // ------------------------------------------------------------------ start

  for (const table of tables) {
    table.heads.forEach((head) => {
      const label = head.querySelector("span") ?? head;
      head.dataset.title = label.textContent.trim();
      const button = document.createElement("button");
      button.type = "button";
      button.append(...label.childNodes);
      if (label === head) head.append(button);
      else label.replaceWith(button);
      button.addEventListener("click", () => {
        const state = readAddress();
        const order = head.getAttribute("aria-sort");
        const turned = { ascending: "descending", descending: "ascending" }[order];
        change({ ...state, sort: columnOf(head), order: turned ?? firstOrder(head) });
      });
    });
    watchCells(table.table);
  }

  function change(state, isTyping = false) {
    writeAddress(state, isTyping);
    show(state);
    if (!isTyping) showForm(state);
  }

  form.addEventListener("input", (event) => {
    const isTyping = ["search", "number"].includes(event.target.type);
    if (isTyping) change(readForm(readAddress()), true);
  });
  form.addEventListener("change", (event) => {
    if (["search", "number"].includes(event.target.type)) return;
    change(readForm(readAddress()));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", (event) => {
    event.preventDefault();
    change({ ...DEFAULTS, protocol: readAddress().protocol });
  });
  for (const button of form.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", () => copy(button.dataset.copy === "csv" ? "," : "\t"));
  }
  addEventListener("popstate", () => {
    showForm(readAddress());
    show(readAddress());
  });
  // On a telephone, the filters would hide the table.
  if (matchMedia("(max-width: 40rem)").matches) form.querySelector("details.filters").open = false;
  form.hidden = false;
  showForm(readAddress());
  show(readAddress());
})();
