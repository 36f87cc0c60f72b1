"use strict";
// Shows replay.json step by step. Every text goes in through textContent: nothing from a model or a game is markup.
(() => {
  const data = JSON.parse(document.getElementById("replay-data").textContent);
  const ROLES = ["", "think", "switch", "subgoal", "action", "answer"];
  const SVG = "http://www.w3.org/2000/svg";
  const KINDS = {
    ".": "floor", i: "ice", s: "start", h: "hole", g: "goal", w: "wall", k: "key", d: "door", u: "open door",
    a: "apple", n: "head", b: "body", m: "other head", e: "other body", x: "own mark", o: "other mark",
  };
  const at = (id) => document.getElementById(`replay-${id}`);
  const state = { policy: "", episode: 0, step: 0, method: 0, minus: -1 };

  function make(name, text, attributes) {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = String(text);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    return element;
  }

  const policy = () => data.policies[state.policy];
  const episode = () => policy().episodes[state.episode];
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
  const mean = (values) => {
    const found = values.filter(isNumber);
    return found.length ? found.reduce((a, b) => a + b, 0) / found.length : null;
  };
  const ofStep = (value) => (Array.isArray(value) ? mean(value) : value);
  const signed = (value) =>
    !isNumber(value) ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Number(Math.abs(value).toPrecision(3));
  const plain = (value, digits) => (isNumber(value) ? String(Number(value.toPrecision(digits || 3))) : "–");
  const signOf = (value) => (!isNumber(value) ? "none" : value > 0 ? "plus" : value < 0 ? "minus" : "zero");

  // Credit: a number for a step or a list for its tokens; a difference is taken by token where either side has tokens.
  function creditOf(step, method) {
    if (method < 0) return null;
    return method === data.methods.length ? step.exact : step.credit[method];
  }

  function shownCredit(step) {
    const left = creditOf(step, state.method);
    if (state.minus < 0) return left;
    const right = creditOf(step, state.minus);
    const less = (a, b) => (isNumber(a) && isNumber(b) ? a - b : null);
    if (!Array.isArray(left) && !Array.isArray(right)) return less(left, right);
    return step.tokens.map((_, k) =>
      less(Array.isArray(left) ? left[k] : left, Array.isArray(right) ? right[k] : right));
  }

  function largest() {
    let found = 0;
    for (const one of policy().episodes)
      for (const step of one.steps) {
        const values = shownCredit(step);
        for (const value of Array.isArray(values) ? values : [values])
          if (isNumber(value)) found = Math.max(found, Math.abs(value));
      }
    return found || 1;
  }

  const methodName = (number) =>
    number < 0 ? "nothing" : number === data.methods.length ? "exact advantage" : data.methods[number].name;

  function fillChoices() {
    for (const name of Object.keys(data.policies)) at("policy").append(make("option", name, { value: name }));
    const hasExact = Object.values(data.policies).some((one) => one.episodes.some((e) => e.steps.some((s) => isNumber(s.exact))));
    const names = data.methods.map((method, number) => [number, method.own ? `${method.name} (this run)` : method.name]);
    if (hasExact) names.push([data.methods.length, "exact advantage"]);
    for (const [number, name] of names) {
      at("method").append(make("option", name, { value: number }));
      at("minus").append(make("option", name, { value: number }));
    }
    at("minus").prepend(make("option", "nothing", { value: -1 }));
    at("minus").value = "-1";
    for (const [name, reason] of Object.entries(data.left_out || {}))
      at("left-out").append(make("dt", name), make("dd", reason));
  }

  function fillEpisodes() {
    at("episode").replaceChildren();
    policy().episodes.forEach((one, number) => {
      const won = one.success === null ? "" : one.success ? ", success" : ", no success";
      const text = `group ${one.group}, ${one.match}: return ${plain(one.return)}, ${one.length} steps${won}`;
      at("episode").append(make("option", text, { value: number }));
    });
  }

  function pick(how) {
    const all = policy().episodes.map((one, number) => [one, number]);
    const by = (key) => all.reduce((best, now) => (key(now[0]) > key(best[0]) ? now : best))[1];
    const failed = all.filter(([one]) => one.success === false || (one.success === null && one.return <= 0));
    if (how === "best") return by((one) => one.return);
    if (how === "worst") return by((one) => -one.return);
    if (how === "longest") return by((one) => one.length);
    if (how === "failed") return failed.length ? failed[0][1] : -1;
    return Math.floor(Math.random() * all.length);
  }

  // A transcript is stored once: a prompt that extends the one before holds only what it adds.
  function promptOf(number) {
    const steps = episode().steps;
    const step = steps[number];
    const own = policy().prompts[step.prompt];
    if (!step.extends || number === 0) return own;
    return promptOf(number - 1) + own;
  }

  function drawCell(svg, letter, row, column) {
    const kind = KINDS[letter] || "floor";
    const shape = (name, values) => {
      const element = document.createElementNS(SVG, name);
      for (const [key, value] of Object.entries(values)) element.setAttribute(key, value);
      svg.append(element);
      return element;
    };
    const [x, y] = [column * 10, row * 10];
    const ground = ["ice", "start", "wall", "door"].includes(kind) ? kind : kind === "hole" || kind === "goal" ? "ice" : "floor";
    shape("rect", { x: x + 0.3, y: y + 0.3, width: 9.4, height: 9.4, rx: 1, class: `cell ${ground}` });
    const circle = (name, radius) => shape("circle", { cx: x + 5, cy: y + 5, r: radius, class: name });
    const line = (name, points) => shape("polyline", { points: points.map(([a, b]) => `${x + a},${y + b}`).join(" "), class: name });
    if (kind === "hole") circle("hole", 3.4);
    if (kind === "goal") line("goal", [[3.5, 8.5], [3.5, 1.5], [8, 3.5], [3.5, 5.5]]);
    if (kind === "start") line("mark faint", [[2, 8], [8, 8]]);
    if (kind === "apple") circle("apple", 2.6);
    if (kind === "key") { circle("key", 1.8); line("mark key-stem", [[6.5, 5], [9, 5], [9, 6.4]]); }
    if (kind === "door") circle("knob", 0.8);
    if (kind === "open door") line("mark door-frame", [[1.5, 9], [1.5, 1.5], [8.5, 1.5], [8.5, 9]]);
    if (kind.endsWith("body")) shape("rect", { x: x + 1.4, y: y + 1.4, width: 7.2, height: 7.2, rx: 1.6, class: kind.startsWith("other") ? "other" : "own" });
    if (kind.endsWith("head")) {
      shape("rect", { x: x + 0.9, y: y + 0.9, width: 8.2, height: 8.2, rx: 2.6, class: kind.startsWith("other") ? "other" : "own" });
      circle("eye", 1.3);
    }
    if (kind === "own mark") { line("mark own-mark", [[2, 2], [8, 8]]); line("mark own-mark", [[8, 2], [2, 8]]); }
    if (kind === "other mark") circle("mark other-mark", 3);
  }

  function drawBoard(picture) {
    const svg = document.createElementNS(SVG, "svg");
    const [rows, columns] = [picture.cells.length, Math.max(...picture.cells.map((row) => row.length))];
    svg.setAttribute("viewBox", `0 0 ${columns * 10} ${rows * 10}`);
    svg.setAttribute("class", "board");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${picture.note}: ${picture.cells.map((row) => [...row].map((c) => KINDS[c] || c).join(", ")).join("; ")}`);
    picture.cells.forEach((row, r) => [...row].forEach((letter, c) => drawCell(svg, letter, r, c)));
    if (picture.at) {
      const player = document.createElementNS(SVG, "circle");
      for (const [key, value] of Object.entries({ cx: picture.at[1] * 10 + 5, cy: picture.at[0] * 10 + 5, r: 2.7, class: "player" }))
        player.setAttribute(key, value);
      svg.append(player);
    }
    return svg;
  }

  function drawDialogue(picture) {
    const box = make("div", null, { class: "dialogue" });
    const said = (who, text, kind) => {
      const line = make("div", null, { class: `said ${kind}` });
      line.append(make("span", who, { class: "who" }), make("div", text, { class: "text" }));
      box.append(line);
    };
    said("question", picture.question, "question");
    for (const turn of picture.turns) {
      said("agent", turn.said, "reply");
      if (turn.result !== null) said(turn.status === "ok" ? "result" : "error", turn.result, turn.status === "ok" ? "result" : "result error");
    }
    return box;
  }

  function showPicture(picture) {
    const box = at("picture");
    if (picture.cells) box.replaceChildren(drawBoard(picture), make("p", picture.note, { class: "muted" }));
    else if (picture.question !== undefined) box.replaceChildren(drawDialogue(picture));
    else box.replaceChildren(make("pre", picture.text));
  }

  function bar(value, top) {
    const box = make("span", null, { class: `bar ${signOf(value)}`, "aria-hidden": "true" });
    const fill = make("i");
    fill.style.setProperty("--part", isNumber(value) ? Math.min(1, Math.abs(value) / top) : 0);
    box.append(fill);
    return box;
  }

  function showReply(step, top) {
    const values = shownCredit(step);
    const less = state.minus < 0 ? "" : ` minus ${methodName(state.minus)}`;
    at("reply-heading").textContent = `Reply, coloured by ${methodName(state.method)}${less}; point at a token for its numbers`;
    const box = at("reply");
    box.replaceChildren();
    step.tokens.forEach((text, k) => {
      const value = Array.isArray(values) ? values[k] : values;
      const facts = [
        `advantage ${signed(value)}`,
        `log-probability ${plain(step.logprob[k], 4)} (probability ${plain(Math.exp(step.logprob[k]))})`,
        step.entropy.length ? `entropy ${plain(step.entropy[k])} nats` : "",
        step.role.length && ROLES[step.role[k]] ? `role ${ROLES[step.role[k]]}` : "",
      ].filter(Boolean).join(" · ");
      const token = make("span", text === "" ? "∅" : text, { class: `token ${signOf(value)}`, tabindex: "0", title: facts });
      token.style.setProperty("--part", isNumber(value) ? Math.min(1, Math.abs(value) / top) : 0);
      const tell = () => { at("token").textContent = `“${text}”: ${facts}`; };
      token.addEventListener("mouseenter", tell);
      token.addEventListener("focus", tell);
      box.append(token);
    });
    if (step.cut) box.append(make("span", `… ${step.cut} more tokens`, { class: "muted" }));
    at("token").textContent = "";
  }

  function showChoice(step) {
    const box = at("choice");
    const choice = step.choice === null ? null : policy().choices[step.choice];
    if (!choice) { box.replaceChildren(); return; }
    const table = make("table", null, { class: "choice" });
    const head = make("tr");
    for (const text of ["action", "π(a|s)", "", ...(choice.exact ? ["exact A"] : [])])
      head.append(make("th", text, { scope: "col", ...(text === "exact A" ? { title: "exact advantage" } : {}) }));
    table.append(head);
    [...choice.actions, "not valid"].forEach((action, a) => {
      const taken = step.valid ? action === step.action && a < choice.actions.length : a === choice.actions.length;
      const row = make("tr", null, taken ? { class: "taken" } : {});
      const share = make("td");
      const meter = make("span", null, { class: "share", "aria-hidden": "true" });
      const fill = make("i");
      fill.style.setProperty("--part", choice.probability[a] || 0);
      meter.append(fill);
      share.append(meter);
      row.append(make("th", taken ? `${action} ◂` : action, { scope: "row" }), make("td", plain(choice.probability[a])), share);
      if (choice.exact) row.append(make("td", signed(choice.exact[a]), { class: signOf(choice.exact[a]) }));
      table.append(row);
    });
    box.replaceChildren(table);
  }

  function showMethods(step) {
    const table = at("methods");
    const values = data.methods.map((method, number) => [method.own ? `${method.name} (this run)` : method.name, ofStep(step.credit[number])]);
    const rows = isNumber(step.exact) ? [["exact advantage", step.exact], ...values] : values;
    const head = make("tr");
    for (const text of ["method", "", "advantage", ...(isNumber(step.exact) ? ["sign"] : [])]) head.append(make("th", text, { scope: "col" }));
    table.replaceChildren(head);
    // Methods have units of their own: each bar is against that method's largest number in these episodes.
    rows.forEach(([name, value], number) => {
      const index = isNumber(step.exact) ? (number === 0 ? data.methods.length : number - 1) : number;
      const row = make("tr", null, index === state.method ? { class: "taken" } : {});
      const cell = make("td");
      cell.append(bar(value, tops[index] || 1));
      row.append(make("th", name, { scope: "row" }), cell, make("td", signed(value), { class: signOf(value) }));
      if (isNumber(step.exact)) {
        const agrees = !isNumber(value) || value === 0 || step.exact === 0 ? "" : Math.sign(value) === Math.sign(step.exact) ? "agrees" : "differs";
        row.append(make("td", number === 0 ? "" : agrees, { class: agrees === "differs" ? "minus" : "" }));
      }
      table.append(row);
    });
  }

  let tops = [];
  function measureTops() {
    tops = new Array(data.methods.length + 1).fill(0);
    for (const one of policy().episodes)
      for (const step of one.steps)
        for (let method = 0; method <= data.methods.length; method += 1) {
          const value = ofStep(creditOf(step, method));
          if (isNumber(value)) tops[method] = Math.max(tops[method], Math.abs(value));
        }
  }

  function showStrip(top) {
    const box = at("strip");
    box.replaceChildren();
    episode().steps.forEach((step, number) => {
      const value = ofStep(shownCredit(step));
      const button = make("button", null, {
        type: "button", tabindex: number === state.step ? "0" : "-1", class: `step-bar ${signOf(value)}`, title: `step ${step.number}: ${signed(value)}`, "aria-label": `Step ${step.number}, credit ${signed(value)}`,
      });
      if (number === state.step) button.setAttribute("aria-current", "step");
      const fill = make("i");
      fill.style.setProperty("--part", isNumber(value) ? Math.min(1, Math.abs(value) / top) : 0);
      button.append(fill);
      button.addEventListener("click", () => { state.step = number; show(); });
      box.append(button);
    });
  }

  function showFacts(one) {
    const total = policy();
    const won = one.success === null ? [] : [one.success ? "success" : "no success"];
    const ended = one.terminated ? "ended by the rules" : "cut by the step limit";
    const outcome = one.outcome ? [`outcome ${plain(one.outcome)}`] : [];
    at("facts").textContent = [
      `${state.policy}, ${total.weights}`, `match ${one.match}`, `return ${plain(one.return)}`, ...outcome, ...won,
      `${one.length} steps, ${ended}`, `${total.episodes.length} of ${total.played} episodes are kept here`,
    ].join(" · ");
  }

  function showEnd(one) {
    at("at").textContent = `end of ${one.length} steps`;
    at("prompt").textContent = "";
    at("reply-heading").textContent = "The episode is over.";
    at("reply").replaceChildren();
    at("token").textContent = "";
    at("outcome").textContent = `return ${plain(one.return)}${one.success === null ? "" : one.success ? ", success" : ", no success"}`;
    at("choice").replaceChildren();
    at("methods").replaceChildren();
    showPicture(policy().pictures[one.end]);
  }

  // Focus stays where arrow keys are heard, though its element was drawn anew or switched off.
  function show() {
    const before = document.activeElement;
    const inStrip = at("strip").contains(before);
    draw();
    if (inStrip) (at("strip").querySelector("[aria-current]") || at("app")).focus({ preventScroll: true });
    else if (before !== document.activeElement || before.disabled) at("app").focus({ preventScroll: true });
  }

  function draw() {
    const one = episode();
    const end = one.steps.length;
    state.step = Math.max(0, Math.min(state.step, end));
    const top = largest();
    at("step").max = String(end);
    at("step").value = String(state.step);
    at("episode").value = String(state.episode);
    at("first").disabled = at("previous").disabled = state.step === 0;
    at("last").disabled = at("next").disabled = state.step === end;
    showFacts(one);
    showStrip(top);
    if (state.step === end) { showEnd(one); return; }
    const step = one.steps[state.step];
    at("at").textContent = `${step.number} of ${one.length}`;
    at("prompt").textContent = promptOf(state.step);
    showPicture(policy().pictures[step.picture]);
    showReply(step, top);
    showChoice(step);
    showMethods(step);
    const parts = Object.entries(step.parts).map(([name, value]) => `${name} ${plain(value)}`);
    const domain = step.domain_reward === step.reward ? [] : [`${plain(step.domain_reward)} by the game alone`];
    at("outcome").textContent = [
      `action ${step.action === null ? "–" : step.action}`, step.valid ? "valid" : `not valid: ${step.reason}`,
      `reward ${plain(step.reward)}`, ...domain, ...parts,
    ].join(" · ");
  }

  function choosePolicy(name) {
    state.policy = name;
    measureTops();
    fillEpisodes();
    choosePick(at("pick").value);
  }

  function choosePick(how) {
    const found = pick(how);
    state.episode = Math.max(0, found);
    state.step = 0;
    show();
    if (found < 0) at("facts").textContent = `No episode of these failed; this is the first. ${at("facts").textContent}`;
  }

  function move(steps) {
    state.step += steps;
    show();
  }

  at("policy").addEventListener("change", (event) => choosePolicy(event.target.value));
  at("pick").addEventListener("change", (event) => choosePick(event.target.value));
  at("episode").addEventListener("change", (event) => { state.episode = Number(event.target.value); state.step = 0; show(); });
  at("method").addEventListener("change", (event) => { state.method = Number(event.target.value); show(); });
  at("minus").addEventListener("change", (event) => { state.minus = Number(event.target.value); show(); });
  at("step").addEventListener("input", (event) => { state.step = Number(event.target.value); show(); });
  at("first").addEventListener("click", () => move(-Infinity));
  at("previous").addEventListener("click", () => move(-1));
  at("next").addEventListener("click", () => move(1));
  at("last").addEventListener("click", () => move(Infinity));
  at("app").addEventListener("keydown", (event) => {
    if (["SELECT", "INPUT"].includes(event.target.tagName) || event.altKey || event.ctrlKey || event.metaKey) return;
    const moves = { ArrowLeft: () => move(-1), ArrowRight: () => move(1), Home: () => move(-Infinity), End: () => move(Infinity) };
    const others = { ArrowUp: -1, ArrowDown: 1 };
    if (event.key in moves) moves[event.key]();
    else if (event.key in others) {
      const count = policy().episodes.length;
      state.episode = (state.episode + others[event.key] + count) % count;
      state.step = 0;
      show();
    } else return;
    event.preventDefault();
  });

  const names = Object.keys(data.policies).filter((name) => data.policies[name].episodes.length);
  if (!names.length || !data.methods) return;
  fillChoices();
  at("app").hidden = false;
  const start = document.activeElement;
  choosePolicy(names[0]);
  if (document.activeElement !== start) document.activeElement.blur();
})();
