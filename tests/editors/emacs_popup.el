;;; emacs_popup.el --- Laws of the popup, where Eglot alone runs the server  -*- lexical-binding: t; -*-

;;; Commentary:

;; What corfu and company-capf do: they take a candidate of `completion-at-point-functions' and call its exit function.

;;; Code:

(require 'emacs_session)
(require 'eglot)

(setq eglot-sync-connect 30 eglot-events-buffer-size 0 completion-styles '(basic))
(add-to-list 'eglot-server-programs (cons 'python-mode (cons (car test-fake) (cdr test-fake))))

(defun popup-candidates ()
  "Return the capf's answer at point and its candidates, once there are any."
  (test-wait "a candidate"
             (lambda ()
               (let* ((capf (run-hook-with-args-until-success 'completion-at-point-functions))
                      (found (and capf (all-completions "" (nth 2 capf)))))
                 (and found (list capf found))))))

;; Of packages that need not be there.
(defvar company-backends)
(defvar company-candidates)
(defvar company-frontends)
(defvar company-idle-delay)
(declare-function company-mode "company")
(declare-function company-manual-begin "company")
(declare-function company-call-backend "company")
(declare-function company-complete-selection "company")
(declare-function corfu-mode "corfu")

(defconst popup-line "    for item in items:\n")

(defun popup-in (act)
  "Call ACT in a buffer that Eglot manages, with point after the beginning of a word."
  (test-open "    for it|\n")
  (unwind-protect
      (progn
        (apply #'eglot (eglot--guess-contact))
        (test-wait "Eglot" #'eglot-managed-p)
        (funcall act))
    (when (eglot-current-server) (ignore-errors (eglot-shutdown (eglot-current-server))))
    (set-buffer-modified-p nil)
    (kill-buffer)))

(ert-deftest the-popup-has-the-whole-suggestion-marked-with-its-joules ()
  (popup-in
   (lambda ()
     (pcase-let* ((`(,capf ,candidates) (popup-candidates))
                  (annotate (plist-get (nthcdr 3 capf) :annotation-function)))
       (should (equal 1 (length candidates)))
       (should (string-match-p "item in items:" (car candidates)))
       (should (string-match-p "greencode .* J modelled" (funcall annotate (car candidates))))
       (delete-region (nth 0 capf) (nth 1 capf))
       (insert (car candidates))
       (funcall (plist-get (nthcdr 3 capf) :exit-function) (car candidates) 'finished)
       (should (equal popup-line (buffer-string)))))))

(ert-deftest company-has-the-whole-suggestion-marked-and-inserts-it ()
  (unless (require 'company nil t) (test-skip "there is no company"))
  (popup-in
   (lambda ()
     (setq-local company-backends '(company-capf) company-frontends nil company-idle-delay nil)
     (company-mode)
     (popup-candidates)
     (test-wait "company" (lambda () (company-manual-begin) (bound-and-true-p company-candidates)))
     (should (equal 1 (length company-candidates)))
     (should (string-match-p "greencode .* J modelled"
                             (company-call-backend 'annotation (car company-candidates))))
     (company-complete-selection)
     (should (equal popup-line (buffer-string))))))

(ert-deftest corfu-completes-to-the-whole-suggestion ()
  (unless (require 'corfu nil t) (test-skip "there is no corfu"))
  (popup-in
   (lambda ()
     (cl-letf (((symbol-function 'corfu--popup-support-p) #'always)) ; in batch there is nothing to draw on
       (corfu-mode)
       (should (string-prefix-p "corfu" (symbol-name completion-in-region-function)))
       (popup-candidates)
       (completion-at-point)
       (should (equal popup-line (buffer-string)))))))

(provide 'emacs_popup)
;;; emacs_popup.el ends here
