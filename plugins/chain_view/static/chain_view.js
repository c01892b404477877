var Se=globalThis.React;var{createElement:Ge,Fragment:Qe,useCallback:Q,useEffect:y,useId:W,useMemo:We,useRef:Y,useState:m,createContext:Z,useContext:Pe,Component:X}=Se;var $e=globalThis.ReactRouterDOM,{Link:E,NavLink:j,Route:v,Routes:ee,useLocation:Ze,useNavigate:te,useSearchParams:_}=$e;var N=class extends Error{constructor(n,o){super(o.title);this.status=n;this.problem=o}status;problem},Te={code:"network",title:"Airflow does not answer",detail:"The request did not reach the API server. It is tried again when you reload.",since:null};function C(e,t={}){let n=new URL(`chainview/api/${e}`,document.baseURI);for(let[o,i]of Object.entries(t))i!=null&&i!==""&&n.searchParams.set(o,String(i));return n}async function Re(e){let t=await e.text(),n=null;try{n=t?JSON.parse(t):null}catch{n=null}if(e.ok)return n;throw new N(e.status,_e(e.status,n))}function _e(e,t){if(t?.problem)return t.problem;if(e===401)return{code:"session",title:"Your session has ended",detail:"Reload the page to log in again.",since:null};if(e===403)return{code:"forbidden",title:"Not allowed",detail:"Your role in Airflow does not permit this.",since:null};let n=typeof t?.detail=="string"?t.detail:JSON.stringify(t?.detail??t??"");return{code:`http_${e}`,title:`The server answered ${e}`,detail:n,since:null}}async function Ce(e,t){let n;try{n=await fetch(e,{credentials:"same-origin",headers:{Accept:"application/json"},...t})}catch(o){throw o.name==="AbortError"?o:new N(0,Te)}return Re(n)}function re(e,t={},n){return Ce(C(e,t),{signal:n})}function w(e,t={}){let n=e===null?null:`${e}?${JSON.stringify(t)}`,[o,i]=m(0),[u,d]=m({key:null,data:null,problem:null,loading:!0});y(()=>{if(e===null){d({key:null,data:null,problem:null,loading:!1});return}let c=new AbortController;return d(s=>({...s,key:n,loading:!0,data:Le(s.key,n)?s.data:null})),re(e,t,c.signal).then(s=>d({key:n,data:s,problem:null,loading:!1})).catch(s=>{c.signal.aborted||d({key:n,data:null,problem:ze(s),loading:!1})}),()=>c.abort()},[n,o]);let g=Q(()=>i(c=>c+1),[]);return{data:u.data,problem:u.problem,loading:u.loading,reload:g}}function ze(e){return e instanceof N?e.problem:{code:"client",title:"The page failed",detail:String(e),since:null}}function Le(e,t){return e!==null&&t!==null&&e.split("?")[0]===t.split("?")[0]}function z(e,t=250){let[n,o]=m(e);return y(()=>{let i=setTimeout(()=>o(e),t);return()=>clearTimeout(i)},[e,t]),n}var L="/plugin/chainwright";function O(e){return`${L}/disk?disk=${encodeURIComponent(e)}`}function ne(e){return`${L}/history?action=${encodeURIComponent(e)}`}var Oe=globalThis.ReactJSXRuntime,{Fragment:F,jsx:r,jsxs:a}=Oe;function oe({chosen:e}){let[t,n]=m(e),o=W(),i=te(),u=z(t),{data:d}=w("query/chain_length",{filter:u,limit:20}),g=d?d.rows.map(l=>String(l.disk_id)):[],c=l=>{l&&i(O(l))},s=l=>{n(l),g.includes(l)&&c(l)};return a("form",{className:"cw-tools",role:"search",onSubmit:l=>{l.preventDefault(),c(t.trim())},children:[a("label",{className:"cw-field",children:[r("span",{children:"Disk"}),r("input",{type:"search",list:o,value:t,maxLength:400,autoComplete:"off",onChange:l=>s(l.target.value)})]}),r("datalist",{id:o,children:g.map(l=>r("option",{value:l},l))}),r("button",{type:"submit",className:"cw-button",children:"Show"})]})}function ae({disk:e}){return r("p",{children:e})}var ie=["B","KiB","MiB","GiB","TiB","PiB"];function Fe(e){let t=Math.abs(e),n=0;for(;t>=1024&&n<ie.length-1;)t/=1024,n+=1;let o=n===0||t>=100?0:1;return`${e<0?"\u2212":""}${t.toFixed(o)} ${ie[n]}`}function P(e){return new Intl.NumberFormat("en").format(e)}function De(e){let t=e!==0&&Math.abs(e)<1?4:2;return new Intl.NumberFormat("en",{style:"currency",currency:"USD",maximumFractionDigits:t}).format(e)}function Ee(e){return`${(100*e).toFixed(e!==0&&Math.abs(e)<.1?1:0)} %`}function M(e){return e<.001?`${(e*1e6).toFixed(0)} \xB5s`:e<1?`${(e*1e3).toFixed(e<.01?1:0)} ms`:e<60?`${e.toFixed(1)} s`:e<3600?`${Math.floor(e/60)} min ${Math.round(e%60)} s`:se(e)}function se(e){if(e<60)return`${Math.max(0,Math.round(e))} s`;if(e<3600)return`${Math.round(e/60)} min`;if(e<86400)return`${Math.floor(e/3600)} h ${Math.round(e%3600/60)} min`;let t=Math.floor(e/86400);return t<60?`${t} d ${Math.round(e%86400/3600)} h`:`${t} d`}function $(e,t=Date.now()){let n=Date.parse(e);return Number.isNaN(n)?e:`${se((t-n)/1e3)} ago`}function S(e){let t=new Date(e);return Number.isNaN(t.getTime())?e:t.toISOString().replace("T"," ").replace(/\.\d+Z$/,"Z")}function I(e){return/^[0-9a-f]{32}$/.test(e)?`${e.slice(0,8)}\u2026`:e}function ce(e){let t=e.replace(/_(bytes|usd|seconds|at|us)$/,"").replaceAll("_"," ").replace(/\bid\b/,"").trim();return t.charAt(0).toUpperCase()+t.slice(1)}function q(e,t){return t==null?"\u2013":Array.isArray(t)?t.map(n=>q(e,n)).join(", "):typeof t=="object"?JSON.stringify(t):typeof t=="boolean"?t?"yes":"no":typeof t=="number"?Me(e,t):/_at$|^hour$|^day$|first_seen|last_modified/.test(e)?S(String(t)):String(t)}function Me(e,t){return/(^|_)bytes(_|$)|virtual_size/.test(e)?Fe(t):/(^|_)usd(_|$)/.test(e)?De(t):/_seconds$/.test(e)?M(t):/_us$/.test(e)?M(t/1e6):/_ms$/.test(e)?M(t/1e3):/(^|_)(share|rate|ratio)$/.test(e)?Ee(t):Number.isInteger(t)?P(t):t.toFixed(2)}function h({what:e}){return a("div",{className:"cw-state",role:"status",children:[r("span",{className:"cw-spinner","aria-hidden":"true"}),"Loading ",e,"\u2026"]})}function x({title:e,children:t}){return a("div",{className:"cw-state cw-empty",children:[r("strong",{children:e}),t?r("p",{className:"cw-muted",children:t}):null]})}function f({problem:e,retry:t}){return a("div",{className:"cw-state cw-trouble",role:"alert",children:[r("strong",{children:e.title}),e.detail?r("p",{children:e.detail}):null,e.since?a("p",{className:"cw-muted",children:["Since ",r("time",{dateTime:e.since,children:S(e.since)})," (",$(e.since),")."]}):null,t?r("button",{type:"button",className:"cw-button",onClick:t,children:"Try again"}):null]})}function le({problem:e}){return a("div",{className:"cw-banner",role:"status",children:[a("strong",{children:[e.title,"."]})," ",e.detail," ",e.since?a("span",{children:["Since ",S(e.since)," (",$(e.since),")."]}):null]})}function de(){let[e]=_(),t=e.get("disk")??"";return a("section",{"aria-label":"Disk",children:[r(oe,{chosen:t},t),t?r(ae,{disk:t},t):r(x,{title:"Pick a disk",children:"Type a part of its name; the longest chains are suggested first."})]})}function pe({column:e,value:t}){if(t==null||t==="")return r("span",{className:"cw-muted",children:"\u2013"});if(e==="disk_id")return r(E,{to:O(String(t)),className:"cw-name",children:r("bdi",{children:String(t)})});if(e==="action_id")return r(E,{to:ne(String(t)),className:"cw-code",children:I(String(t))});if(/(layer_id|layer|root|tip|backing|etag)/.test(e)&&typeof t=="string")return r("bdi",{className:"cw-code",title:t,children:I(t)});let n=q(e,t);return typeof t=="number"?r("span",{title:`${t}`,children:n}):r("bdi",{className:"cw-name",children:n})}function ue({query:e,params:t,close:n}){let o=Y(null),{data:i,problem:u,loading:d}=w(`sql/${e}`,t);return y(()=>{o.current?.showModal()},[]),a("dialog",{ref:o,className:"cw-dialog","aria-label":`SQL of ${e}`,onClose:n,children:[a("div",{className:"cw-tools",children:[r("h3",{children:i?i.file:e}),r("span",{className:"cw-grow"}),r("button",{type:"button",className:"cw-button",onClick:()=>o.current?.close(),children:"Close"})]}),u?r(f,{problem:u}):null,d&&!i?r(h,{what:"the query"}):null,i?a(F,{children:[a("p",{className:"cw-muted",children:["Runs on the command line as ",r("code",{children:i.command}),"."]}),Object.keys(i.parameters).length>0?a("p",{className:"cw-muted",children:["Bound parameters: ",r("code",{children:JSON.stringify(i.parameters)})]}):null,r("pre",{tabIndex:0,children:i.sql})]}):null]})}function me(e){let{query:t,caption:n,params:o={},empty:i,limit:u=25,filterable:d=!0}=e,[g,c]=m(0),[s,l]=m(e.sort?{column:e.sort,desc:e.desc??!1}:null),[B,ye]=m(""),[ke,J]=m(!1),T=z(B);y(()=>c(0),[T,JSON.stringify(o)]);let D={...o,filter:T,sort:s?.column,desc:s?.desc||void 0},{data:b,problem:H,loading:K,reload:ve}=w(`query/${t}`,{...D,offset:g,limit:u}),Ne=p=>{c(0),l(k=>k?.column===p?{column:p,desc:!k.desc}:{column:p,desc:!0})},V=b?b.columns.filter(p=>!e.columns||e.columns.includes(p.name)):[],G=e.columns?[...V].sort((p,k)=>e.columns.indexOf(p.name)-e.columns.indexOf(k.name)):V;return a("div",{className:"cw-data","aria-busy":K,children:[a("div",{className:"cw-tools",children:[d?a("label",{className:"cw-field",children:[r("span",{children:"Filter"}),r("input",{type:"search",value:B,maxLength:200,onChange:p=>ye(p.target.value)})]}):null,r("span",{className:"cw-grow"}),r("a",{className:"cw-button",href:C(`download/${t}`,{...D,format:"csv"}).href,download:!0,children:"CSV"}),r("a",{className:"cw-button",href:C(`download/${t}`,{...D,format:"parquet"}).href,download:!0,children:"Parquet"}),r("button",{type:"button",className:"cw-button","aria-haspopup":"dialog",onClick:()=>J(!0),children:"SQL"})]}),H?r(f,{problem:H,retry:ve}):null,!b&&K?r(h,{what:n.toLowerCase()}):null,b&&b.total===0?r(x,{title:T?`Nothing matches \u201C${T}\u201D`:i}):null,b&&b.total>0?a(F,{children:[r("div",{className:"cw-scroll",tabIndex:0,role:"region","aria-label":n,children:a("table",{className:"cw-table",children:[r("caption",{className:"cw-hidden",children:n}),r("thead",{children:r("tr",{children:G.map(p=>r(Ie,{column:p,sort:s,order:Ne},p.name))})}),r("tbody",{children:b.rows.map((p,k)=>r("tr",{children:G.map(R=>r("td",{className:R.numeric?"cw-number":void 0,children:r(pe,{column:R.name,value:p[R.name]})},R.name))},k))})]})}),r(qe,{page:b,limit:u,go:c,what:n})]}):null,ke?r(ue,{query:t,params:o,close:()=>J(!1)}):null]})}function Ie({column:e,sort:t,order:n}){let o=t?.column===e.name,i=o?t.desc?"descending":"ascending":"none";return r("th",{scope:"col","aria-sort":i,className:e.numeric?"cw-number":void 0,children:a("button",{type:"button",onClick:()=>n(e.name),title:e.name,children:[ce(e.name),r("span",{"aria-hidden":"true",children:o?t.desc?" \u2193":" \u2191":""})]})})}function qe({page:e,limit:t,go:n,what:o}){let i=Math.min(e.offset+t,e.total);return a("nav",{className:"cw-pager","aria-label":`Pages of ${o.toLowerCase()}`,children:[a("span",{role:"status",children:[P(e.total===0?0:e.offset+1),"\u2013",P(i)," of ",P(e.total)]}),r("button",{type:"button",className:"cw-button",disabled:e.offset===0,onClick:()=>n(0),children:"First"}),r("button",{type:"button",className:"cw-button",disabled:e.offset===0,onClick:()=>n(Math.max(0,e.offset-t)),children:"Previous"}),r("button",{type:"button",className:"cw-button",disabled:i>=e.total,onClick:()=>n(e.offset+t),children:"Next"})]})}var ge=["chain_length","shadowed_data","merge_candidates","cross_region_hotspots","growth_forecast","orphans","broken_chains","size_anomalies"],Ae={chain_length:"Long chains",shadowed_data:"Shadowed data",merge_candidates:"Merge candidates",cross_region_hotspots:"Cross-region hotspots",growth_forecast:"Growth",orphans:"Orphans",broken_chains:"Broken chains",size_anomalies:"Size anomalies"};function we(){let[e,t]=_(),{data:n,problem:o,loading:i,reload:u}=w("queries");if(o)return r(f,{problem:o,retry:u});if(!n)return i?r(h,{what:"the findings"}):null;let d=n.filter(s=>s.parameters.every(l=>l.default!==null||Ue.has(l.name)));if(d.length===0)return r(x,{title:"No findings are installed",children:"The folder sql/ holds no query."});let g=Be(d),c=g.find(s=>s.name===e.get("finding"))??g[0];return a("section",{"aria-label":"Findings",children:[r("div",{className:"cw-tools",children:a("label",{className:"cw-field",children:[r("span",{children:"Finding"}),r("select",{value:c.name,onChange:s=>t({finding:s.target.value}),children:g.map(s=>r("option",{value:s.name,children:A(s.name)},s.name))})]})}),r("h2",{children:A(c.name)}),a("p",{className:"cw-muted",children:[c.title," ",c.grain?`One row: ${c.grain.replace(/^one row per /,"")}.`:""]}),r(me,{query:c.name,caption:A(c.name),empty:"Nothing found: that is good news"},c.name)]})}var Ue=new Set(["prices","storage_prices","max_chain_length","keep_layers","now"]);function A(e){let t=e.replaceAll("_"," ");return Ae[e]??t.charAt(0).toUpperCase()+t.slice(1)}function Be(e){let t=n=>{let o=ge.indexOf(n.name);return o<0?ge.length:o};return[...e].sort((n,o)=>t(n)-t(o)||n.name.localeCompare(o.name))}function fe(){return null}function be(){return null}var he=Z(null);var xe=`/* Airflow's own tokens carry both themes; the fallbacks are only for a page outside of it. */
.cw-root {
  --cw-fg: var(--chakra-colors-fg, #1f2328);
  --cw-muted: var(--chakra-colors-fg-muted, #57606a);
  --cw-bg: var(--chakra-colors-bg, #fff);
  --cw-panel: var(--chakra-colors-bg-subtle, #f6f8fa);
  --cw-line: var(--chakra-colors-border-emphasized, #d0d7de);
  --cw-accent: #0b6bcb;
  --cw-on-accent: #fff;
  --cw-danger: #b42318;
  --cw-warn-bg: #fff4e0;
  --cw-warn-line: #b35900;
  --cw-trouble-bg: #fdecea;
  --cw-visible: #0b6bcb;
  --cw-shadowed: #c05600;
  --cw-zero: #8b949e;
  --cw-compressed: #6f42c1;
  color: var(--cw-fg);
  font-size: 14px;
  line-height: 1.45;
  height: 100%;
  overflow: auto;
  padding: 0 16px 32px;
}
.dark .cw-root {
  --cw-accent: #4da3ff;
  --cw-on-accent: #06121f;
  --cw-danger: #ff7b72;
  --cw-warn-bg: #33240c;
  --cw-warn-line: #f0a050;
  --cw-trouble-bg: #3a1512;
  --cw-visible: #4da3ff;
  --cw-shadowed: #f0a050;
  --cw-zero: #7d8590;
  --cw-compressed: #b392f0;
}
.cw-root *, .cw-root *::before { box-sizing: border-box; }
.cw-root a { color: var(--cw-accent); text-decoration: none; }
.cw-root a:hover { text-decoration: underline; }
.cw-root :focus-visible { outline: 2px solid var(--cw-accent); outline-offset: 2px; }
.cw-root h1 { font-size: 20px; font-weight: 650; }
.cw-root h2 { font-size: 16px; font-weight: 650; margin: 24px 0 8px; }
.cw-root h3 { font-size: 14px; font-weight: 650; }
.cw-root code, .cw-code { font-family: ui-monospace, SFMono-Regular, Menlo, monospace; font-size: 12.5px; }
.cw-muted { color: var(--cw-muted); }
.cw-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.cw-grow { flex: 1 1 auto; }

.cw-header { display: flex; flex-wrap: wrap; align-items: center; gap: 4px 20px; padding: 12px 0 0; border-bottom: 1px solid var(--cw-line); }
.cw-asof { margin-left: auto; padding: 4px 0; font-size: 13px; }
.cw-tabs { display: flex; flex-wrap: wrap; gap: 2px; }
.cw-tabs a { padding: 8px 12px; border-bottom: 2px solid transparent; color: var(--cw-fg); }
.cw-tabs a.active { border-bottom-color: var(--cw-accent); color: var(--cw-accent); font-weight: 600; }
.cw-main { padding-top: 12px; }

.cw-tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
.cw-tile { background: var(--cw-panel); border: 1px solid var(--cw-line); border-radius: 8px; padding: 10px 12px; min-width: 0; }
.cw-tile dt { color: var(--cw-muted); font-size: 12.5px; }
.cw-tile dd { font-size: 20px; font-weight: 600; overflow-wrap: anywhere; margin: 0; }
.cw-tile dd small { display: block; font-size: 12px; font-weight: 400; color: var(--cw-muted); }

.cw-grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; margin-top: 16px; }
.cw-figure, .cw-card { background: var(--cw-panel); border: 1px solid var(--cw-line); border-radius: 8px; padding: 12px; margin: 0; min-width: 0; }
.cw-figure figcaption p { font-size: 13px; }
.cw-chart { width: 100%; margin-top: 6px; }
.cw-figures summary { cursor: pointer; font-size: 13px; color: var(--cw-muted); padding: 4px 0; }

.cw-tools { display: flex; flex-wrap: wrap; align-items: end; gap: 8px; margin: 8px 0; }
.cw-field { display: flex; flex-direction: column; gap: 2px; font-size: 12.5px; color: var(--cw-muted); min-width: 0; }
.cw-root input, .cw-root select { font: inherit; font-size: 14px; color: var(--cw-fg); background: var(--cw-bg); border: 1px solid var(--cw-line); border-radius: 6px; padding: 5px 8px; max-width: 100%; }
.cw-root input[type="search"] { width: 260px; }
.cw-button { display: inline-flex; align-items: center; gap: 6px; font: inherit; font-size: 13px; padding: 5px 12px; border: 1px solid var(--cw-line); border-radius: 6px; background: var(--cw-bg); color: var(--cw-fg) !important; cursor: pointer; }
.cw-button:hover:not(:disabled) { border-color: var(--cw-accent); text-decoration: none !important; }
.cw-button:disabled { color: var(--cw-muted) !important; cursor: not-allowed; opacity: 0.75; }
.cw-button.cw-primary { background: var(--cw-accent); border-color: var(--cw-accent); color: var(--cw-on-accent) !important; }
.cw-button.cw-primary:disabled { background: transparent; color: var(--cw-muted) !important; border-color: var(--cw-line); }
.cw-link { background: none; border: 0; padding: 0; font: inherit; color: var(--cw-accent); cursor: pointer; text-decoration: underline; }
.cw-segments { display: inline-flex; flex-wrap: wrap; border: 1px solid var(--cw-line); border-radius: 6px; overflow: hidden; margin: 6px 0; padding: 0; }
.cw-segments label { position: relative; padding: 4px 10px; font-size: 13px; cursor: pointer; }
.cw-segments input { position: absolute; opacity: 0; inset: 0; width: 100%; margin: 0; cursor: pointer; }
.cw-segments label:has(input:checked) { background: var(--cw-accent); color: var(--cw-on-accent); }
.cw-segments label:has(input:focus-visible) { outline: 2px solid var(--cw-fg); outline-offset: -2px; }

.cw-scroll { overflow-x: auto; border: 1px solid var(--cw-line); border-radius: 8px; background: var(--cw-bg); }
.cw-table { border-collapse: collapse; width: 100%; font-size: 13px; }
.cw-table th, .cw-table td { padding: 6px 10px; text-align: left; border-bottom: 1px solid var(--cw-line); white-space: nowrap; vertical-align: top; }
.cw-table tbody tr:last-child td { border-bottom: 0; }
.cw-table th { background: var(--cw-panel); font-weight: 600; }
.cw-table th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
.cw-table .cw-number { text-align: right; font-variant-numeric: tabular-nums; }
.cw-table td.cw-wrap { white-space: normal; min-width: 240px; }
.cw-name { display: inline-block; max-width: 320px; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; white-space: nowrap; }
.cw-pager { display: flex; flex-wrap: wrap; align-items: center; gap: 8px; margin-top: 8px; font-size: 13px; }

.cw-state { display: flex; flex-direction: column; align-items: flex-start; gap: 6px; padding: 16px; border: 1px dashed var(--cw-line); border-radius: 8px; margin: 8px 0; overflow-wrap: anywhere; }
.cw-trouble { border: 1px solid var(--cw-danger); background: var(--cw-trouble-bg); }
.cw-banner { border-left: 4px solid var(--cw-warn-line); background: var(--cw-warn-bg); padding: 8px 12px; border-radius: 4px; margin-bottom: 12px; overflow-wrap: anywhere; }
.cw-spinner { width: 16px; height: 16px; border: 2px solid var(--cw-line); border-top-color: var(--cw-accent); border-radius: 50%; animation: cw-turn 0.9s linear infinite; }
@keyframes cw-turn { to { transform: rotate(1turn); } }
@media (prefers-reduced-motion: reduce) { .cw-spinner { animation: none; } }

.cw-dialog { width: min(900px, calc(100vw - 32px)); max-height: 85vh; overflow: auto; margin: auto; border: 1px solid var(--cw-line); border-radius: 8px; padding: 16px; background: var(--cw-bg); color: var(--cw-fg); }
.cw-dialog::backdrop { background: rgb(0 0 0 / 0.5); }
.cw-dialog pre { overflow: auto; background: var(--cw-panel); border: 1px solid var(--cw-line); border-radius: 6px; padding: 10px; font-size: 12.5px; margin-top: 8px; }

.cw-badge { display: inline-block; border: 1px solid var(--cw-line); border-radius: 999px; padding: 0 8px; font-size: 12px; white-space: nowrap; }
.cw-badge.cw-good { border-color: #1a7f37; color: #1a7f37; }
.cw-badge.cw-bad { border-color: var(--cw-danger); color: var(--cw-danger); }
.dark .cw-badge.cw-good { border-color: #56d364; color: #56d364; }

.cw-chain { list-style: none; margin: 8px 0 0; padding: 0; border: 1px solid var(--cw-line); border-radius: 8px; background: var(--cw-bg); }
.cw-layer { display: grid; grid-template-columns: 44px minmax(110px, 150px) minmax(90px, 120px) minmax(160px, 1fr) minmax(210px, 300px); gap: 4px 12px; align-items: center; padding: 7px 10px; border-bottom: 1px solid var(--cw-line); border-left: 6px solid var(--cw-region, var(--cw-line)); font-size: 13px; }
.cw-layer:last-child { border-bottom: 0; }
.cw-layer > * { min-width: 0; }
.cw-layer .cw-place { text-align: right; color: var(--cw-muted); font-variant-numeric: tabular-nums; }
.cw-bar { display: flex; height: 16px; background: color-mix(in srgb, var(--cw-line) 35%, transparent); border-radius: 3px; overflow: hidden; }
.cw-bar span { min-width: 0; }
.cw-visible { background: var(--cw-visible); }
.cw-shadowed { background: repeating-linear-gradient(45deg, var(--cw-shadowed) 0 4px, color-mix(in srgb, var(--cw-shadowed) 55%, var(--cw-bg)) 4px 8px); }
.cw-zero { background: repeating-linear-gradient(90deg, var(--cw-zero) 0 2px, color-mix(in srgb, var(--cw-zero) 45%, var(--cw-bg)) 2px 5px); }
.cw-compressed { background: repeating-linear-gradient(0deg, var(--cw-compressed) 0 3px, color-mix(in srgb, var(--cw-compressed) 60%, var(--cw-bg)) 3px 5px); }
.cw-legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 6px 0; padding: 0; list-style: none; }
.cw-legend i { display: inline-block; width: 22px; height: 11px; border-radius: 2px; margin-right: 6px; vertical-align: baseline; }
.cw-facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); gap: 6px 16px; margin: 0; }
.cw-facts dt { color: var(--cw-muted); font-size: 12.5px; }
.cw-facts dd { margin: 0; overflow-wrap: anywhere; }
.cw-columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); gap: 16px; margin-top: 16px; }
.cw-steps { margin: 6px 0 0; padding-left: 20px; list-style: disc; }

@media (max-width: 700px) {
  .cw-root { padding: 0 10px 24px; }
  .cw-asof { margin-left: 0; }
  .cw-tabs a { padding: 8px; }
  .cw-tile dd { font-size: 17px; }
  .cw-tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .cw-layer { grid-template-columns: 34px minmax(0, 1fr) auto; }
  .cw-layer .cw-bar, .cw-layer .cw-numbers { grid-column: 1 / -1; }
  .cw-root input[type="search"] { width: 100%; }
  .cw-field:has(input[type="search"]) { flex: 1 1 100%; }
  .cw-name { max-width: 200px; }
}
`;function He(){let{data:e,problem:t,loading:n,reload:o}=w("status");return a("div",{className:"cw-root",children:[r("style",{children:xe}),a("header",{className:"cw-header",children:[r("h1",{children:"Chainwright"}),r(Ke,{}),e?.snapshot?a("p",{className:"cw-muted cw-asof",children:["Inventory of ",r("time",{dateTime:e.snapshot.created_at,children:S(e.snapshot.created_at)})," (",$(e.snapshot.created_at),")"," ",r("button",{type:"button",className:"cw-link",onClick:o,children:"Refresh"})]}):null]}),a("div",{className:"cw-main",children:[e?.warning?r(le,{problem:e.warning}):null,t?r(f,{problem:t,retry:o}):null,!e&&n?r(h,{what:"the fleet's state"}):null,e?.problem?r(f,{problem:e.problem,retry:o}):null,e?.fleet&&e.snapshot?r(he.Provider,{value:{...e,fleet:e.fleet,snapshot:e.snapshot,reload:o},children:r(Ve,{},e.snapshot.id)}):null]})]})}function Ke(){return r("nav",{className:"cw-tabs","aria-label":"Chainwright pages",children:[["","Fleet"],["/disk","Disk"],["/findings","Findings"],["/history","Plan and history"]].map(([t,n])=>r(j,{to:`${L}${t}`,end:t==="",children:n},t))})}function Ve(){return a(ee,{children:[r(v,{path:"",element:r(fe,{})}),r(v,{path:"disk",element:r(de,{})}),r(v,{path:"findings",element:r(we,{})}),r(v,{path:"history",element:r(be,{})}),r(v,{path:"*",element:r(x,{title:"There is no such page"})})]})}var U=class extends X{state={error:null};static getDerivedStateFromError(t){return{error:t}}render(){return this.state.error?r(f,{problem:{code:"client",title:"The page failed",detail:String(this.state.error),since:null},retry:()=>this.setState({error:null})}):this.props.children}};globalThis.Chainwright=function(){return r(U,{children:r(He,{})})};
