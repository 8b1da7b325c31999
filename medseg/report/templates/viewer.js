// The 3-D viewer: nothing is decompressed, run or drawn before the reader asks for it.
(() => {
  const root = document.getElementById("viewer");
  const status = root.querySelector("[role=status]");
  const stage = root.querySelector(".stage");
  const choice = (name) => root.querySelector(`select[name=${name}]`);
  const HEADER = 352;
  const ERRORS = [
    ["false positive", [213, 94, 0]],
    ["false negative", [86, 180, 233]],
    ["another class than the label", [240, 228, 66]],
  ];
  let data, viewer, library;
  let turn = 0;

  async function unpacked(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  // The policy of the page admits this text by its hash, and no other.
  async function loaded() {
    const code = await unpacked(root.querySelector(".library").textContent);
    const script = document.createElement("script");
    script.textContent = new TextDecoder().decode(code);
    document.head.append(script);
    return window.niivue;
  }

  function colours(names, rgb) {
    const channel = (place) => [0, ...rgb.map((colour) => colour[place])];
    return {
      R: channel(0), G: channel(1), B: channel(2),
      A: [0, ...rgb.map(() => 255)],
      I: [0, ...rgb.map((_, place) => place + 1)],
      labels: ["", ...names],
    };
  }

  function errorsOf(label, prediction) {
    const errors = label.slice(0);
    const [truth, found, wrong] = [label, prediction, errors].map((b) => new Uint8Array(b, HEADER));
    for (let i = 0; i < truth.length; i += 1) {
      if (truth[i] === found[i]) wrong[i] = 0;
      else if (truth[i] === 0) wrong[i] = 1;
      else wrong[i] = found[i] === 0 ? 2 : 3;
    }
    return errors;
  }

  // Name and colour of every value of the overlay, from 1, and its volume.
  async function overlay(entry) {
    const arm = entry.arms[choice("arm").selectedIndex];
    const kind = choice("overlay").value;
    if (kind === "none") return null;
    const classes = data.classes.map((name, i) => [name, data.colours[i % data.colours.length]]);
    if (kind === "label") return { values: classes, volume: await unpacked(entry.label) };
    const prediction = await unpacked(arm.prediction);
    if (kind === "prediction") return { values: classes, volume: prediction };
    return { values: ERRORS, volume: errorsOf(await unpacked(entry.label), prediction) };
  }

  function legend(values) {
    const items = values.map(([name, rgb]) => {
      const item = document.createElement("li");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = `rgb(${rgb.join(" ")})`;
      item.append(dot, name);
      return item;
    });
    root.querySelector(".legend").replaceChildren(...items);
  }

  async function show() {
    const mine = (turn += 1);
    root.dataset.state = "busy";
    const entry = data.cases[choice("case").selectedIndex];
    const over = await overlay(entry);
    const images = [await library.NVImage.new(await unpacked(entry.image), "image.nii")];
    if (over) {
      const image = await library.NVImage.new(over.volume, "overlay.nii");
      image.setColormapLabel(colours(over.values.map((v) => v[0]), over.values.map((v) => v[1])));
      image.opacity = 0.6;
      images.push(image);
    }
    if (mine !== turn) return; // the reader has chosen something else meanwhile
    while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
    images.forEach((image) => viewer.addVolume(image));
    turned();
    legend(over ? over.values : []);
    root.dataset.state = "shown";
  }

  function turned() {
    const types = viewer.sliceTypeMultiplanar;
    const views = {
      multi: types, axial: viewer.sliceTypeAxial, coronal: viewer.sliceTypeCoronal,
      sagittal: viewer.sliceTypeSagittal, render: viewer.sliceTypeRender,
    };
    viewer.setSliceType(views[choice("view").value]);
  }

  function listed(select, names) {
    select.replaceChildren(...names.map((name) => new Option(name)));
  }

  function arms() {
    const entry = data.cases[choice("case").selectedIndex];
    const kept = choice("arm").selectedIndex;
    listed(choice("arm"), entry.arms.map((arm) => `${arm.number} ${arm.label}`));
    choice("arm").selectedIndex = Math.min(Math.max(kept, 0), entry.arms.length - 1);
  }

  function failed(error) {
    root.dataset.state = "failed";
    stage.hidden = true;
    status.textContent = `The viewer could not start (${error.message ?? error}). The pictures above show the same cases.`;
  }

  async function open() {
    root.querySelector(".open").disabled = true;
    status.textContent = "Opening …";
    try {
      if (!document.createElement("canvas").getContext("webgl2")) {
        throw new Error("this browser offers no WebGL 2");
      }
      data = JSON.parse(root.querySelector(".data").textContent);
      library = await loaded();
      stage.hidden = false;
      viewer = new library.Niivue({
        backColor: [0, 0, 0, 1], logLevel: "error", loadingText: "", crosshairWidth: 0.4,
        crosshairWidthUnit: "percent", crosshairColor: [1, 1, 1, 0.6],
        multiplanarShowRender: library.SHOW_RENDER.ALWAYS,
        multiplanarLayout: library.MULTIPLANAR_TYPE.GRID,
      });
      await viewer.attachToCanvas(root.querySelector("canvas"));
      listed(choice("case"), data.cases.map((entry) => entry.case));
      arms();
      choice("case").addEventListener("change", arms);
      ["case", "arm", "overlay"].forEach((name) =>
        choice(name).addEventListener("change", () => show().catch(failed)),
      );
      choice("view").addEventListener("change", turned);
      await show();
      status.textContent = "";
      root.querySelector(".open").hidden = true;
    } catch (error) {
      failed(error);
    }
  }

  root.querySelector(".open").addEventListener("click", open);
})();
