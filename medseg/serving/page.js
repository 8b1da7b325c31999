// One volume is sent, its label map comes back, and both are drawn.
(() => {
  const find = (id) => document.getElementById(id);
  const LARGEST_NAME = 200;
  let model, viewer, link;

  function say(text, state) {
    find("status").textContent = text;
    find("status").className = state;
    document.body.dataset.state = state;
  }

  const colour = (index) => model.colours[index % model.colours.length];

  function labelColours() {
    const channel = (place) => [0, ...model.classes.map((_, i) => colour(i)[place])];
    return {
      R: channel(0), G: channel(1), B: channel(2),
      A: [0, ...model.classes.map(() => 255)],
      I: [0, ...model.classes.map((_, i) => i + 1)],
      labels: ["", ...model.classes],
    };
  }

  function legend() {
    find("legend").replaceChildren(...model.classes.map((name, i) => {
      const item = document.createElement("li");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.background = `rgb(${colour(i).join(" ")})`;
      item.append(dot, name);
      return item;
    }));
  }

  async function attached() {
    if (viewer) return;
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("this browser offers no WebGL 2; save the label map and open it elsewhere");
    }
    const fresh = new niivue.Niivue({
      backColor: [0, 0, 0, 1], logLevel: "error", loadingText: "", crosshairWidth: 0.4,
      crosshairWidthUnit: "percent", crosshairColor: [1, 1, 1, 0.6], dragAndDropEnabled: false,
      multiplanarShowRender: niivue.SHOW_RENDER.ALWAYS,
      multiplanarLayout: niivue.MULTIPLANAR_TYPE.GRID,
    });
    await fresh.attachToCanvas(find("canvas"));
    viewer = fresh;
  }

  function turned() {
    const views = {
      multi: viewer.sliceTypeMultiplanar, axial: viewer.sliceTypeAxial,
      coronal: viewer.sliceTypeCoronal, sagittal: viewer.sliceTypeSagittal,
      render: viewer.sliceTypeRender,
    };
    viewer.setSliceType(views[find("view").value]);
  }

  async function draw(file, labels) {
    await attached();
    const image = await niivue.NVImage.new(await file.arrayBuffer(), file.name || "volume.nii.gz");
    const overlay = await niivue.NVImage.new(await labels.arrayBuffer(), "labels.nii.gz");
    overlay.setColormapLabel(labelColours());
    overlay.opacity = Number(find("opacity").value);
    while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
    viewer.addVolume(image);
    viewer.addVolume(overlay);
    turned();
  }

  async function segment(file) {
    say(`${file.name.slice(0, LARGEST_NAME)} is being segmented …`, "busy");
    find("file").disabled = true;
    try {
      const form = new FormData();
      form.append("file", file, "volume");
      const start = performance.now();
      const answer = await fetch("predict", { method: "POST", body: form });
      if (!answer.ok) {
        const said = await answer.json().catch(() => ({}));
        throw new Error(said.detail || `the service answered ${answer.status}`);
      }
      const labels = await answer.blob();
      const seconds = ((performance.now() - start) / 1000).toFixed(1);
      if (link) URL.revokeObjectURL(link);
      link = URL.createObjectURL(labels);
      find("save").href = link;
      find("save").download = `${file.name.replace(/\.(nii\.gz|nii|nrrd|mha)$/i, "")}_labels.nii.gz`;
      find("result").hidden = false;
      await draw(file, labels);
      say(`${file.name.slice(0, LARGEST_NAME)}: segmented in ${seconds} s`, "shown");
    } catch (error) {
      say(error.message ?? String(error), "failed");
    } finally {
      find("file").disabled = false;
    }
  }

  async function start() {
    model = await (await fetch("model")).json();
    find("about").textContent = `Trained on ${model.dataset}; finds ${model.classes.join(", ")}.`;
    legend();
    find("file").addEventListener("change", () => {
      const [file] = find("file").files;
      if (file) segment(file);
      find("file").value = "";
    });
    const drop = find("drop");
    const over = (is) => (event) => {
      event.preventDefault();
      drop.classList.toggle("over", is);
    };
    drop.addEventListener("dragover", over(true));
    drop.addEventListener("dragleave", over(false));
    drop.addEventListener("drop", (event) => {
      over(false)(event);
      const [file] = event.dataTransfer.files;
      if (file && !find("file").disabled) segment(file);
    });
    find("view").addEventListener("change", turned);
    find("opacity").addEventListener("input", () => viewer.setOpacity(1, Number(find("opacity").value)));
    say("", "ready");
  }

  start().catch((error) => say(`The service does not answer (${error.message}).`, "failed"));
})();
