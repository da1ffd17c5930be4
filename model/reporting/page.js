// The page's language, the rows of queries and their filters. State is in the address: ?lang=ar&class=n02123394&error=top1
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const address = () => new URLSearchParams(location.search);
  const languages = { en: "ltr", ar: "rtl" };
  const state = { lang: address().get("lang"), class: address().get("class") || "", error: address().get("error") || "" };
  if (!(state.lang in languages)) state.lang = (navigator.language || "").startsWith("ar") ? "ar" : "en";

  function remember() {
    const query = new URLSearchParams(Object.entries(state).filter(([name, value]) => value && !(name === "lang" && value === "en")));
    history.replaceState(null, "", (String(query) ? `?${query}` : location.pathname) + location.hash);
  }

  // Texts. An element names what it says in each language in data-en, data-ar; for its attributes data-label-en, data-alt-en.
  function fill(key, values, language) {
    return data.texts[key][language].replace(/\{(\w+)\}/g, (_, name) =>
      language === "ar" ? `\u2066${values[name]}\u2069` : values[name]);
  }
  function say(element, key, values = {}, attribute = "") {
    const prefix = attribute ? `data-${attribute}-` : "data-";
    for (const language in languages) element.setAttribute(prefix + language, fill(key, values, language));
    translate(element);
    return element;
  }
  function translate(element) {
    const has = (name) => element.getAttribute(name + state.lang);
    if (has("data-") !== null) element.textContent = has("data-");
    if (has("data-label-") !== null) element.setAttribute("aria-label", has("data-label-"));
    if (has("data-alt-") !== null) element.alt = has("data-alt-");
  }
  function translateAll() {
    document.documentElement.lang = state.lang;
    document.documentElement.dir = languages[state.lang];
    document.querySelectorAll("[data-en], [data-label-en], [data-alt-en]").forEach(translate);
    button.lang = state.lang === "en" ? "ar" : "en";
  }
  // The first block whose top is in view stays where it is; if there is none, the one that fills the view.
  function keepPlace(change) {
    const blocks = [...document.querySelectorAll("main :is(h2, h3, p, article, tr, figure, li, details)")]
      .map((element) => [element, element.getBoundingClientRect()])
      .filter(([, box]) => box.height > 0 && box.bottom > 0 && box.top < innerHeight);
    const [anchor, box] = blocks.find(([, one]) => one.top >= 0) || blocks[0] || [];
    change();
    if (anchor && scrollY > 0) scrollBy({ top: anchor.getBoundingClientRect().top - box.top, behavior: "instant" });
  }
  const button = document.getElementById("language");
  button.addEventListener("click", () => {
    state.lang = state.lang === "en" ? "ar" : "en";
    keepPlace(translateAll);
    remember();
  });

  // Rows.
  function make(tag, className, parent) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (parent) parent.append(element);
    return element;
  }
  function name(parent, number, tag = "bdi") {
    const element = make(tag, "", parent);
    element.lang = "en";
    element.textContent = data.classes[number][1];
    return element;
  }
  function tile(parent, x, y, side) {
    const element = make("span", "tile", parent);
    element.style.cssText = `--x:${x};--y:${y};--side:${side}`;
    element.setAttribute("role", "img");
    return element;
  }
  function headingOf([space, method, bits]) {
    if (bits === null) return [`by_${space}`, {}];
    return [space === "pixels" ? "by_pixel_code" : "by_code", { bits }];
  }
  function drawAnswers(parent, best, truth) {
    const list = say(make("ol", "bars", parent), "answers", {}, "label");
    for (const [number, probability] of best) {
      const bar = make("li", number === truth ? "true" : "", list);
      bar.style.setProperty("--p", probability);
      name(bar, number);
      make("span", "value", bar).textContent = probability.toFixed(2);
    }
  }
  function drawNeighbours(parent, kind, neighbours, truth, first) {
    const block = make("div", "kind", parent);
    const title = say(make("h4", "", block), ...headingOf(kind));
    const list = make("ol", "tiles", block);
    title.id = `${parent.id}-${first}`;
    list.setAttribute("aria-labelledby", title.id);
    neighbours.forEach(([key, number, distance, rank], place) => {
      const item = make("li", number === truth ? "right" : "wrong", list);
      const along = (first + place) % data.columns, down = Math.floor((first + place) / data.columns);
      const picture = tile(item, (along + 2) * data.tile, down * data.tile, data.tile);
      say(picture, number === truth ? "neighbour_right" : "neighbour_wrong", { name: data.classes[number][1], distance }, "label");
      picture.title = `${data.classes[number][1]} · ${key}`;
      const note = make("small", "", item);
      note.dir = "ltr";
      note.textContent = distance;
      if (kind[0] === "features" && rank !== null) {
        const far = make("small", "rank", item);
        far.dir = "ltr";
        far.textContent = `#${rank.toLocaleString("en")}`;
        say(far, "pixel_rank", { rank: rank.toLocaleString("en") }, "label");
        far.setAttribute("role", "img");
      }
    });
    return first + neighbours.length;
  }
  function drawRow([key, truth, rank, best, kinds], number) {
    const row = make("article", "query");
    row.id = `query-${number}`;
    const left = make("div", "left", row);
    const title = make("h3", "", left);
    title.id = `${row.id}-name`;
    name(title, truth);
    row.setAttribute("aria-labelledby", title.id);
    const picture = tile(left, 0, 0, 2 * data.tile);
    say(picture, "query", { key, name: data.classes[truth][1] }, "label");
    picture.title = key;
    drawAnswers(left, best, truth);
    const right = make("div", "kinds", row);
    right.id = `${row.id}-kinds`;
    kinds.reduce((first, neighbours, place) => drawNeighbours(right, data.kinds[place], neighbours, truth, first), 0);
    return row;
  }
  const rows = data.rows.map(drawRow);
  const loadPicture = (row) => row.style.setProperty("--strip", `url("strips/${rows.indexOf(row)}.jpg")`);
  const inView = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      loadPicture(entry.target);
      inView.unobserve(entry.target);
    }
  }, { rootMargin: "300px" });

  // Filters.
  const form = document.getElementById("filters");
  const wrong = { "": () => true, right: (rank) => rank === 1, top1: (rank) => rank > 1, top5: (rank) => rank > 5 };
  function filter() {
    let shown = 0;
    rows.forEach((row, number) => {
      const [, truth, rank] = data.rows[number];
      row.hidden = (state.class !== "" && data.classes[truth][0] !== state.class) || !wrong[state.error](rank);
      shown += !row.hidden;
    });
    document.getElementById("nothing").hidden = shown > 0;
    say(document.getElementById("count"), "shown", { shown, all: rows.length });
  }
  if (form) {
    const choice = document.getElementById("class");
    const used = new Set(data.rows.map((row) => row[1]));
    [...used].sort((a, b) => data.classes[a][1].localeCompare(data.classes[b][1], "en")).forEach((number) => {
      const option = make("option", "", choice);
      [option.value, option.textContent] = data.classes[number];
      option.lang = "en";
    });
    choice.value = state.class;
    form.elements.error.value = state.error;
    if (choice.selectedIndex < 0) choice.value = state.class = "";
    if (form.elements.error.selectedIndex < 0) form.elements.error.value = state.error = "";
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", () => {
      [state.class, state.error] = [choice.value, form.elements.error.value];
      filter();
      remember();
    });
    form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("change"))));
    document.getElementById("rows").style.setProperty("--strip-width", (data.columns + 2) * data.tile);
    document.getElementById("rows").append(...rows);
    rows.forEach((row) => inView.observe(row));
    filter();
  }

  // A link to an origin opens it; print shows everything that is not filtered out.
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  }
  addEventListener("hashchange", openTarget);
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((details) => { details.open = true; });
    rows.filter((row) => !row.hidden).forEach(loadPicture);
  });
  translateAll();
  openTarget();
})();
