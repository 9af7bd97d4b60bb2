"use strict";
// One participant, one sheet of questions, one state {participant, answers} that is kept after each answer.
(() => {
  const SETTLE_MS = 250; // after a question appears, so that a double tap does not answer two
  const study = JSON.parse(document.getElementById("study").textContent);
  const QUESTIONS = {
    content: "Which picture keeps the content of this photo better?",
    style: `Which picture carries the style of ${study.styles.length > 1 ? "these artworks" : "this artwork"} better?`,
  };
  const key = `${study.format} ${study.study}`;
  const at = (id) => document.getElementById(id);

  let state = read() || fresh();
  let sheet = sheetOf(state.participant);
  let shown = 0; // when the present question appeared

  function fresh() {
    const words = crypto.getRandomValues(new Uint32Array(2));
    return { participant: [...words].map((word) => word.toString(16).padStart(8, "0")).join(""), answers: [] };
  }

  function sheetNumber(participant) {
    return parseInt(participant.slice(0, 8), 16) % study.sheets.length;
  }

  function sheetOf(participant) {
    return study.sheets[sheetNumber(participant)].map(([kind, picture, left, right, again]) => ({
      kind, picture, left, right, again,
    }));
  }

  function read() {
    try {
      const found = JSON.parse(localStorage.getItem(key));
      const known = /^[0-9a-f]{16}$/.test(found.participant) && found.answers.every(({ choice }) => choice);
      return known && found.answers.length <= sheetOf(found.participant).length ? found : null;
    } catch { // nothing kept, or nothing of ours
      return null;
    }
  }

  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify(state));
    } catch {
      at("storage").hidden = false;
    }
  }

  function show(section) {
    for (const id of ["intro", "asking", "done"]) at(id).hidden = id !== section;
    window.scrollTo(0, 0);
  }

  function next() {
    if (state.answers.length < sheet.length) ask();
    else finish();
  }

  function ask() {
    const question = sheet[state.answers.length];
    show("asking");
    at("question").textContent = QUESTIONS[question.kind];
    at("count").textContent = `${state.answers.length + 1} of ${sheet.length}`;
    at("progress").max = sheet.length;
    at("progress").value = state.answers.length;
    at("progress").textContent = at("count").textContent;
    const tops = question.kind === "content" ? [study.photos[question.picture]] : study.styles;
    const what = question.kind === "content" ? "the photo" : "an artwork of the style";
    at("reference").replaceChildren(...tops.map((source) => picture(source, what)));
    at("reference").classList.toggle("several", tops.length > 1);
    for (const side of ["left", "right"]) {
      const image = at(side).querySelector("img");
      image.src = study.results[question[side]][question.picture];
      image.alt = `picture ${side === "left" ? "A" : "B"}`;
    }
    at("undo").disabled = state.answers.length === 0;
    at("question").focus({ preventScroll: true });
    shown = performance.now();
  }

  function picture(source, text) {
    const image = new Image();
    image.src = source;
    image.alt = text;
    return image;
  }

  function answer(choice) {
    const waited = performance.now() - shown;
    if (waited < SETTLE_MS) return;
    state.answers.push({ choice, seconds: Math.round(waited / 100) / 10 });
    keep();
    next();
  }

  function undo() {
    if (state.answers.length === 0) return;
    state.answers.pop();
    keep();
    ask();
  }

  function finish() {
    const complete = state.answers.length === sheet.length;
    const text = JSON.stringify(results(), null, 1);
    show("done");
    at("done-title").textContent = complete ? "Thank you!" : "Paused";
    at("done-text").textContent = complete
      ? `You have answered all ${sheet.length} questions. Save the answers and hand the file to whoever asked you.`
      : `You have answered ${state.answers.length} of ${sheet.length} questions. Go on now, come back later with ` +
        "this browser, or save what there is: that counts too.";
    at("go-on").hidden = complete;
    at("download").classList.toggle("main", complete);
    for (const id of ["download", "copy", "undo-last", "again"]) at(id).hidden = state.answers.length === 0;
    at("undo-last").hidden ||= !complete;
    at("answers").value = text;
    URL.revokeObjectURL(at("download").href);
    at("download").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    at("download").download = `gan-style-study-${study.study}-${state.participant}.json`;
    at("copied").textContent = "";
    at("done-title").focus({ preventScroll: true });
  }

  function results() {
    return {
      format: study.format,
      version: study.version,
      study: study.study,
      participant: state.participant,
      sheet: sheetNumber(state.participant),
      questions: sheet.length,
      allow_ties: study.allow_ties,
      models: study.models,
      names: study.names,
      answers: state.answers.map(({ choice, seconds }, number) => {
        const { kind, picture: photo, left, right, again } = sheet[number];
        const [first, second] = [study.models[left], study.models[right]];
        return { question: number, kind, picture: photo, left: first, right: second, repeat_of: again, choice, seconds };
      }),
    };
  }

  function copy() { // not navigator.clipboard: browsers may refuse it to a page that is a file
    at("answers").select();
    const done = document.execCommand("copy");
    at("copied").textContent = done
      ? "Copied; paste them into a message."
      : "They are selected below; copy them with your browser's menu or keys.";
  }

  function another() {
    if (!window.confirm("Have you saved the answers? They are removed from this browser now.")) return;
    state = fresh();
    sheet = sheetOf(state.participant);
    keep();
    begin();
  }

  function begin() {
    show("intro");
    at("start").focus();
  }

  function pressed(event) {
    if (at("asking").hidden || event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const actions = { ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), Backspace: undo };
    if (study.allow_ties) actions.ArrowDown = () => answer("tie");
    if (!(event.key in actions)) return;
    event.preventDefault();
    actions[event.key]();
  }

  at("title").textContent = study.title;
  at("total").textContent = sheet.length;
  at("tie").hidden = !study.allow_ties;
  at("tie-key").hidden = !study.allow_ties;
  for (const side of ["left", "right"]) at(side).addEventListener("click", () => answer(side));
  at("tie").addEventListener("click", () => answer("tie"));
  at("undo").addEventListener("click", undo);
  at("undo-last").addEventListener("click", undo);
  at("stop").addEventListener("click", finish);
  at("start").addEventListener("click", () => { keep(); next(); });
  at("go-on").addEventListener("click", next);
  at("copy").addEventListener("click", copy);
  at("again").addEventListener("click", another);
  document.addEventListener("keydown", pressed);
  if (state.answers.length > 0) next();
  else begin();
})();
